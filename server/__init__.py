"""The REAPI server. Layers, lowest first: config; blobstore, actioncache, scheduler; db; rpc; cli.

May import remote_apis; server.cli may also start the worker package.
"""
