"""The gRPC services: decode, call, encode.

One file a service, thin; what a request may ask for is checked by `terms.py`, errors become
statuses in `status.py` alone and are caught in `handlers.py` alone. May import remote_apis, the
stores, the scheduler and server.db; knows nothing of how the server was configured.
"""
