"""A near store in front of a far one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, OutOfSpace
from server.blobstore.interface import BlobStore, reading


class ReadCachingBlobStore:
    """Reads from `near`, where a blob of `far` is put first. `far` alone says what is there.

    A blob that `near` has no room for is read from `far`.
    """

    def __init__(self, *, near: BlobStore, far: BlobStore) -> None:
        self._near = near
        self._far = far

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        return await self._far.find_missing(digests)

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        store = self._near
        if await self._near.find_missing([digest]):
            try:
                async with reading(self._far, digest) as chunks:
                    await self._near.write(digest, chunks)
            except OutOfSpace:
                store = self._far
        started = False
        try:
            async with reading(store, digest, offset, limit) as chunks:
                async for chunk in chunks:
                    started = True
                    yield chunk
            return
        except BlobNotFound:
            if started or store is self._far:
                raise
        async with reading(self._far, digest, offset, limit) as chunks:
            async for chunk in chunks:
                yield chunk

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        await self._far.write(digest, chunks)
