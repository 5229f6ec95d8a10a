"""SplitBlob and SpliceBlob: blobs as sequences of other blobs (REAPI 2.12)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence

from remote_apis.chunking import Chunker, Cutter
from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, InvalidRequest, Unsupported
from server.blobstore.interface import BlobStore, reading, write_all

_AT_ONCE = 2
"""Blobs split at a time: each takes a processor and some tens of megabytes."""
_REMEMBERED_CHUNKS = 200_000


class Splitter:
    """Splits blobs, stores their chunks and remembers which these were."""

    def __init__(self, store: BlobStore, chunkers: Sequence[Chunker]) -> None:
        self._store = store
        self._chunkers = {chunker.number: chunker for chunker in reversed(chunkers)}
        self._default = chunkers[0] if chunkers else None
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._known: OrderedDict[tuple[Digest, int], tuple[Digest, ...]] = OrderedDict()
        self._known_chunks = 0

    async def split(self, digest: Digest, wish: int) -> tuple[tuple[Digest, ...], int]:
        """The chunks, all of them stored, and the number of the ChunkingFunction used.

        An unknown `wish` gets the default, as the specification allows. Raises BlobNotFound,
        OutOfSpace, Unsupported when there is nothing to split with.
        """
        chunker = self._chunkers.get(wish, self._default)
        if chunker is None:
            raise Unsupported("this server does not split blobs")
        if await self._store.find_missing([digest]):
            raise BlobNotFound(digest)
        if digest.size < chunker.smallest_split:
            return ((digest,) if digest.size else ()), chunker.number
        key = (digest, chunker.number)
        async with self._turns:
            chunks = self._known.get(key)
            if chunks is None or await self._store.find_missing(chunks):
                chunks = await self._cut(digest, chunker)
                self._remember(key, chunks)
        return chunks, chunker.number

    async def _cut(self, digest: Digest, chunker: Chunker) -> tuple[Digest, ...]:
        loop = asyncio.get_running_loop()
        cutter = chunker.cutter()
        chunks: list[Digest] = []
        async with reading(self._store, digest) as pieces:
            async for piece in pieces:
                cut = await loop.run_in_executor(None, _feed, cutter, piece, digest)
                chunks += await self._keep(cut)
        cut = await loop.run_in_executor(None, _finish, cutter, digest)
        chunks += await self._keep(cut)
        return tuple(chunks)

    async def _keep(self, cut: Sequence[tuple[Digest, bytes]]) -> list[Digest]:
        # Together, so that their commits share syncs.
        await asyncio.gather(*(write_all(self._store, chunk, data) for chunk, data in cut))
        return [chunk for chunk, _ in cut]

    def _remember(self, key: tuple[Digest, int], chunks: tuple[Digest, ...]) -> None:
        self._known_chunks += len(chunks) - len(self._known.pop(key, ()))
        self._known[key] = chunks
        while self._known_chunks > _REMEMBERED_CHUNKS and len(self._known) > 1:
            _, forgotten = self._known.popitem(last=False)
            self._known_chunks -= len(forgotten)


async def splice(store: BlobStore, digest: Digest, chunks: Sequence[Digest]) -> None:
    """Store the concatenation of chunks as one blob; nothing happens when it is there already.

    Raises BlobNotFound for a missing chunk, InvalidRequest when the chunks are not the blob, and
    OutOfSpace.
    """
    total = sum(chunk.size for chunk in chunks)
    if total != digest.size:
        raise InvalidRequest(f"the chunks have {total} bytes together, blob {digest} another size")
    missing = await store.find_missing({digest, *chunks})
    if digest not in missing:
        return
    for chunk in chunks:
        if chunk in missing and chunk != digest:
            raise BlobNotFound(chunk)
    if digest in chunks:
        raise BlobNotFound(digest)
    await store.write(digest, _concatenated(store, chunks))


async def _concatenated(store: BlobStore, chunks: Sequence[Digest]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        async with reading(store, chunk) as pieces:
            async for piece in pieces:
                yield piece


def _feed(cutter: Cutter, piece: bytes, digest: Digest) -> list[tuple[Digest, bytes]]:
    return [(Digest.of(chunk, digest.function), chunk) for chunk in cutter.feed(piece)]


def _finish(cutter: Cutter, digest: Digest) -> list[tuple[Digest, bytes]]:
    return [(Digest.of(chunk, digest.function), chunk) for chunk in cutter.finish()]
