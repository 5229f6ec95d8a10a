// bb_clientd in front of a distbuild server: its mount shows the server's CAS, and its socket is a
// remote executor for clients on this machine. Four environment variables decide the rest:
//   DISTBUILD_SERVER    the server, HOST:PORT
//   BB_CLIENTD_MOUNT    an empty directory to mount on
//   BB_CLIENTD_SOCKET   where clients connect, a path
//   BB_CLIENTD_STATE    a directory for the file pool
local server = { address: std.extVar('DISTBUILD_SERVER') };

{
  blobstore: {
    // Instance names pass through unchanged: the server takes any, the empty one included.
    actionCache: { grpc: { client: server } },
    contentAddressableStorage: {
      readCaching: {
        slow: { grpc: { client: server } },
        // What was read once is served from memory: 8 blocks of 32 MiB, so that the largest blob
        // that can be cached has 32 MiB.
        fast: {
          'local': {
            keyLocationMapInMemory: { entries: 1024 * 1024 },
            keyLocationMapMaximumGetAttempts: 16,
            keyLocationMapMaximumPutAttempts: 64,
            oldBlocks: 2,
            currentBlocks: 4,
            newBlocks: 2,
            blocksInMemory: { blockSizeBytes: 32 * 1024 * 1024 },
          },
        },
        replicator: { deduplicating: { 'local': {} } },
      },
    },
  },
  schedulers: { '': { endpoint: server } },
  grpcServers: [{
    listenPaths: [std.extVar('BB_CLIENTD_SOCKET')],
    authenticationPolicy: { allow: {} },
  }],
  mount: {
    mountPath: std.extVar('BB_CLIENTD_MOUNT'),
    fuse: { directoryEntryValidity: '300s', inodeAttributeValidity: '300s' },
  },
  filePool: {
    blockDevice: {
      file: { path: std.extVar('BB_CLIENTD_STATE') + '/file_pool', sizeBytes: 1024 * 1024 * 1024 },
    },
  },
  directoryCache: {
    maximumCount: 10000,
    maximumSizeBytes: 10 * 1024 * 1024,
    cacheReplacementPolicy: 'LEAST_RECENTLY_USED',
  },
  maximumMessageSizeBytes: 16 * 1024 * 1024,
  maximumTreeSizeBytes: 256 * 1024 * 1024,
}
