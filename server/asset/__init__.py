"""What URIs stand for: pushed assets, and fetching from where the URIs point.

`service.py` answers a query from the index or from an origin; `http.py` and `git.py` are the
origins, `addresses.py` keeps them away from this machine and its network, `archives.py` and
`trees.py` turn what came into Merkle trees. May import remote_apis, server.blobstore and
server.actioncache; the index in SQL lives in server.db.
"""
