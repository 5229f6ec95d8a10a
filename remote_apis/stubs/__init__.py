"""Stubs generated from third_party/protos by tools/generate_stubs.py (``make protos``).

Nothing below this package is ever edited by hand: change the .proto files and generate again.
"""
