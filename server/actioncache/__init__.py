"""Where results of actions are kept.

`interface.py` is the whole of what the rest of the project knows: get, put and remove. The leaf on
SQL lives in server.db; here are the one in memory and the decorators, one a file. May import
remote_apis and server.blobstore's interface.
"""
