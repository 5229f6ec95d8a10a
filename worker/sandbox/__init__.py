"""Where actions run: an interface and one file for each way.

`interface` is what the rest of the worker knows; `bubblewrap` isolates, `none` does not and is
used by explicit choice alone, `select` picks and checks at the start. Imports `worker.process`
and `remote_apis`.
"""
