// bb_storage as a client of the scheduler sees it: CAS and ActionCache in memory, Execute passed on.
// Its socket and the scheduler's are in the directory BB_STATE.
local state = std.extVar('BB_STATE');
local allow = { allow: {} };

local memory(newBlocks) = {
  'local': {
    keyLocationMapInMemory: { entries: 64 * 1024 },
    keyLocationMapMaximumGetAttempts: 16,
    keyLocationMapMaximumPutAttempts: 64,
    oldBlocks: 2,
    currentBlocks: 4,
    newBlocks: newBlocks,
    blocksInMemory: { blockSizeBytes: 8 * 1024 * 1024 },
  },
};

{
  grpcServers: [{ listenPaths: [state + '/storage'], authenticationPolicy: allow }],
  contentAddressableStorage: {
    backend: memory(3),
    getAuthorizer: allow,
    putAuthorizer: allow,
    findMissingAuthorizer: allow,
  },
  actionCache: {
    backend: {
      completenessChecking: { backend: memory(1), maximumTotalTreeSizeBytes: 64 * 1024 * 1024 },
    },
    getAuthorizer: allow,
    putAuthorizer: allow,
  },
  schedulers: { '': { endpoint: { address: 'unix://' + state + '/scheduler' } } },
  executeAuthorizer: allow,
  maximumMessageSizeBytes: 16 * 1024 * 1024,
}
