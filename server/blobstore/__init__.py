"""Where blobs are kept.

`interface.py` is the whole of what the rest of the project knows: three operations. Leaves keep
blobs (memory, disk); every other file is one decorator or combinator over the same interface,
named for what it adds. May import remote_apis; wiring them together is server.cli's work.
"""
