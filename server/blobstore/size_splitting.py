"""Small blobs in one store, large ones in another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from remote_apis.digest import Digest
from server.blobstore.interface import BlobStore


class SizeSplittingBlobStore:
    """Blobs of less than `threshold` bytes are in `small`, all others in `large`."""

    def __init__(self, *, small: BlobStore, large: BlobStore, threshold: int) -> None:
        self._small = small
        self._large = large
        self._threshold = threshold

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        small = [digest for digest in digests if digest.size < self._threshold]
        large = [digest for digest in digests if digest.size >= self._threshold]
        missing: set[Digest] = set()
        if small:
            missing |= await self._small.find_missing(small)
        if large:
            missing |= await self._large.find_missing(large)
        return missing

    def open_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        return self._of(digest).open_read(digest, offset, limit)

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        await self._of(digest).write(digest, chunks)

    def _of(self, digest: Digest) -> BlobStore:
        return self._small if digest.size < self._threshold else self._large
