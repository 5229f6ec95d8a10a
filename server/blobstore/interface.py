"""BlobStore: the whole of what storage means to the rest of the project."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from remote_apis.digest import Digest

CHUNK_SIZE = 1024 * 1024
"""Bytes of a chunk. Measured: the best throughput a CPU second with grpc.aio."""


class BlobStore(Protocol):
    """Blobs by digest. Every implementation passes tests/blobstore's behaviour suite.

    The empty blob is always present and readable (REAPI 2.12 ContentAddressableStorage).
    """

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Those that are absent. The present ones' lifetimes are extended."""
        ...

    def open_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        """The blob's bytes from `offset`, at most `limit` of them (0: all), in chunks.

        Raises BlobNotFound before the first chunk when it is absent or its stored bytes turn out
        damaged. `offset` must lie in [0, size]; the callers check. The iterator must be closed
        when it is not read to its end: use `reading`.
        """
        ...

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        """Store the chunks under the digest; durable and visible when this returns.

        Raises DigestMismatch when hash or size differ, OutOfSpace when the disk or quota is full,
        and whatever `chunks` raises; after an error nothing is stored. Many writes of one blob at
        a time are fine.
        """
        ...


class LocalFiles(Protocol):
    """What a store that keeps each blob in a file of its own offers besides.

    A blob's file may have a second name elsewhere, by `adopt` or by a link of the caller's: whoever
    writes to that writes to the blob. It shows in the modification time, and the blob is gone.
    """

    async def path_of(self, digest: Digest) -> Path:
        """A file with the blob's bytes, checked as for a read, to be copied or linked soon.

        Raises BlobNotFound. The file is read-only and the store's: never write to it. The empty
        blob has one too.
        """
        ...

    async def adopt(
        self, digest: Digest, path: str, status: os.stat_result, *, links: bool
    ) -> bool:
        """Store a file's bytes without reading them; `links` by another name for the same file.

        `status` is the file's from before its bytes were known to be those of `digest`. False, with
        nothing done, when it is another file by now, or cannot be had so. Raises OutOfSpace.
        """
        ...

    async def copy_in(self, paths: Mapping[Digest, str]) -> set[Digest]:
        """Store copies of files that ought to have the blobs' bytes, of each that has them.

        Returns the digests whose files have not, or cannot be read. Raises OutOfSpace.
        """
        ...

    def linked(self, digest: Digest, status: os.stat_result) -> None:
        """The caller has given the blob's file a second name and new times: `status` is its now."""
        ...

    def where(self, digest: Digest) -> str:
        """The same without a look: it may be gone or damaged, so its bytes are to be checked."""
        ...


@asynccontextmanager
async def reading(
    store: BlobStore, digest: Digest, offset: int = 0, limit: int = 0
) -> AsyncIterator[AsyncIterator[bytes]]:
    """`store.open_read`, closed at the end of the `async with`."""
    chunks = store.open_read(digest, offset, limit)
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def read_all(store: BlobStore, digest: Digest) -> bytes:
    """A whole blob in memory; for small ones. Raises BlobNotFound."""
    return b"".join([chunk async for chunk in store.open_read(digest)])


async def write_all(store: BlobStore, digest: Digest, data: bytes) -> None:
    """Store bytes in hand. Raises as `BlobStore.write`."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), CHUNK_SIZE):
            yield data[start : start + CHUNK_SIZE]

    await store.write(digest, chunks())
