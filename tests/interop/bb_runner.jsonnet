// bb_runner, which starts the commands of bb_worker's actions: as its own user, without a sandbox.
local state = std.extVar('BB_STATE');

{
  buildDirectoryPath: state + '/build',
  grpcServers: [{ listenPaths: [state + '/runner'], authenticationPolicy: { allow: {} } }],
}
