"""cargo distbuild beside its peers: the same workspaces built by each; `make bench-wrapper`."""
