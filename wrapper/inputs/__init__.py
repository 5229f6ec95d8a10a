"""Finds what a compile reads and names it by digest: packages, toolchain, dependencies, OUT_DIR.

Reads the file system; changes nothing. May import remote_apis and wrapper.rustc, wrapper.roots.
"""
