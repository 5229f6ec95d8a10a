"""Runs of build scripts: watched, kept by what they read, and put back without a run.

A launcher stands in each build script's place and asks the daemon. `accesses` and `environment`
decide, without I/O, what a run depends on; `reads` says what that is here and now; `keys` makes the
two actions of it; `runs` finds and keeps results. May import the wrapper but its daemon and
command line.
"""
