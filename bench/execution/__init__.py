"""Figures of remote execution; `make bench-execution` prints them."""
