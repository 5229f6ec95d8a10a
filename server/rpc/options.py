"""How gRPC itself is set up for these services."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""FindMissingBlobs for 850,000 digests; blobs come in pieces of a megabyte."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Left to itself gRPC lets each stream buffer as much as the connection is fast: on a local
    # network 16 uploads took 250 MB. A window of one chunk still gives 10 MB/s a stream over
    # 100 ms.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
)
"""For `grpc.aio.server(options=…)`, besides what concerns connections."""
