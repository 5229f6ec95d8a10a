"""What both ends of the wire share.

The generated protobuf and gRPC stubs, digests, validated paths, canonical Merkle trees,
ByteStream resource names and the REAPI client live here. Servers, workers and command-line
tools build on this package; it imports nothing else from the project.
"""
