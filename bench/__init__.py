"""Benchmarks: commands that measure the real programs on this machine. Nothing imports them."""
