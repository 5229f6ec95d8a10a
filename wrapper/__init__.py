"""The cargo wrapper: every rustc that cargo starts becomes a REAPI Action with a shared result.

`shim` is what cargo starts, `daemon` answers it, `rustc` understands its arguments, `inputs` finds
what a compile reads, `action` and `script` make the Action, `ladder` takes a unit down from hit to
remote to local, `materialise` puts results into the target directory. May import remote_apis,
server.blobstore, server.actioncache and server.db (for the local tier); nothing imports it.
"""
