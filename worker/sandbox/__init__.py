"""Where actions run: an interface and one file for each way.

`interface` is what the rest of the worker knows; `bubblewrap` isolates, `none` does not and is
used by explicit choice alone, `select` picks and checks at the start. `containers` decides where an
action with a `container-image` runs: in `container` through an `engine`, or in bubblewrap. Imports
`worker.process`, `worker.images`, `worker.survivors` and `remote_apis`.
"""
