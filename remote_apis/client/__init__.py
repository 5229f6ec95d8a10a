"""The REAPI client that worker and wrapper share.

`channel` opens connections, `cas`, `action_cache`, `execution` and `capabilities` are one client
class per service, `rpc_errors` turns gRPC errors into those of `remote_apis.errors`. It imports
nothing of the project but `remote_apis`.
"""
