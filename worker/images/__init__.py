"""Container images without an engine: found in a directory, unpacked once, kept by digest.

`files` reads layouts and tarballs, `manifest` finds the images in them, `catalogue` the images of
a directory; `layers` verifies and `root` applies the layers, `unpack` makes a root file system of
them and `store` keeps it. Imports `remote_apis` and the worker's small helpers, no sandbox.
"""
