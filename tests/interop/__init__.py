"""Real client programs against a real server: bazel, BuildStream, buildbox-casd, bgd, grpcurl.

Each test starts its own `distbuild serve` in a directory of its own and runs the client program as
its user would. The programs come from tools/install_clients.sh. Modules here may import each other,
the standard library, pytest, tests/support and `remote_apis`; never the server's own code.
"""
