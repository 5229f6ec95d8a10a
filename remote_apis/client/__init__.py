"""The REAPI client that worker, wrapper and the commands share.

`channel` opens connections; `cas`, `bytestream`, `action_cache`, `execution`, `operations` and
`workers` are one client class per service, all on `service`; `rpc_errors` turns gRPC errors into
those of `remote_apis.errors`. It imports nothing of the project but `remote_apis`.
"""
