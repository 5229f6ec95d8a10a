// bb_worker of a distbuild server, with native build directories and two actions at a time.
//   DISTBUILD_SERVER    the server, HOST:PORT
//   BB_STATE            a directory with `build` and `cache` in it; also for the runner's socket
// A distbuild server gives a worker what asks for no more than the worker offers.
local server = { address: std.extVar('DISTBUILD_SERVER') };
local state = std.extVar('BB_STATE');

{
  scheduler: server,
  blobstore: {
    actionCache: { grpc: { client: server } },
    contentAddressableStorage: { grpc: { client: server } },
  },
  buildDirectories: [{
    native: {
      buildDirectoryPath: state + '/build',
      cacheDirectoryPath: state + '/cache',
      maximumCacheFileCount: 10000,
      maximumCacheSizeBytes: 1024 * 1024 * 1024,
      cacheReplacementPolicy: 'LEAST_RECENTLY_USED',
    },
    runners: [{
      endpoint: { address: 'unix://' + state + '/runner' },
      concurrency: 2,
      platform: {
        properties: [
          { name: 'OSFamily', value: 'linux' },
          { name: 'Pool', value: 'buildbarn' },
        ],
      },
      workerId: { machine: 'barn' },
    }],
  }],
  filePool: {
    blockDevice: { file: { path: state + '/file_pool', sizeBytes: 64 * 1024 * 1024 } },
  },
  directoryCache: {
    maximumCount: 1000,
    maximumSizeBytes: 1024 * 1024,
    cacheReplacementPolicy: 'LEAST_RECENTLY_USED',
  },
  inputDownloadConcurrency: 10,
  outputUploadConcurrency: 10,
  maximumMessageSizeBytes: 16 * 1024 * 1024,
}
