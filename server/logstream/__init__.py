"""Log streams: append-only files that are followed while they grow (LogStream API).

`streams.py` keeps them, within bounds and for a time; ByteStream reaches them through it.
`live.py` has those of what actions print. May import remote_apis and server.blobstore.
"""
