"""What `cargo distbuild doctor` looks at, one file a subject; every check returns findings.

`finding` is what they return, `machine` looks at compilers, linker and sandbox, `place` at
DISTBUILD_HOME, `settings` at cargo's configuration, `server` at the server. May import all of the
wrapper but its daemon's calls and its command line.
"""
