"""Compression and decompression of streams beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from remote_apis.compression import Decoder, Encoder

EXISTING_COMPRESSED = -1
"""committed_size of a compressed upload of a blob that is there already (REAPI 2.12)."""
_PIECE = 1024 * 1024
_WORTH_A_THREAD = 64 * 1024
"""Bytes below which (de)compressing takes no longer than going to a thread."""


async def encoded(encoder: Encoder, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The compressed form of the chunks."""
    loop = asyncio.get_running_loop()
    async for chunk in chunks:
        if len(chunk) < _WORTH_A_THREAD:
            out = encoder.feed(chunk)
        else:
            out = await loop.run_in_executor(None, encoder.feed, chunk)
        if out:
            yield out
    rest = encoder.finish()
    for start in range(0, len(rest), _PIECE):
        yield rest[start : start + _PIECE]


async def decoded(decoder: Decoder, data: bytes) -> AsyncIterator[bytes]:
    """What compressed bytes make, some megabytes at a time however much it is.

    Raises InvalidRequest.
    """
    pieces = decoder.feed(data)
    loop = asyncio.get_running_loop()
    while True:
        if len(data) < _WORTH_A_THREAD:
            piece = _take(pieces)
        else:
            piece = await loop.run_in_executor(None, _take, pieces)
        if not piece:
            return
        yield piece


def _take(pieces: Iterator[bytes]) -> bytes:
    taken = bytearray()
    for piece in pieces:
        taken += piece
        if len(taken) >= _PIECE:
            break
    return bytes(taken)
