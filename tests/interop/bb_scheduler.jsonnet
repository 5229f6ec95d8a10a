// bb_scheduler between bb_storage and workers: sockets in the directory BB_STATE.
local state = std.extVar('BB_STATE');
local allow = { allow: {} };

{
  clientGrpcServers: [{ listenPaths: [state + '/scheduler'], authenticationPolicy: allow }],
  workerGrpcServers: [{ listenPaths: [state + '/workers'], authenticationPolicy: allow }],
  contentAddressableStorage: {
    grpc: { client: { address: 'unix://' + state + '/storage' } },
  },
  executeAuthorizer: allow,
  modifyDrainsAuthorizer: allow,
  killOperationsAuthorizer: allow,
  synchronizeAuthorizer: allow,
  actionRouter: {
    simple: {
      platformKeyExtractor: { action: {} },
      invocationKeyExtractors: [{ toolInvocationId: {} }],
      initialSizeClassAnalyzer: {
        defaultExecutionTimeout: '600s',
        maximumExecutionTimeout: '3600s',
      },
    },
  },
  platformQueueWithNoWorkersTimeout: '60s',
  maximumMessageSizeBytes: 16 * 1024 * 1024,
}
