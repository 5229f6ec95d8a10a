"""A leaf that keeps blobs in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, OutOfSpace
from server.blobstore.interface import CHUNK_SIZE
from server.blobstore.verifying import Verifier


class MemoryBlobStore:
    """Holds at most `max_bytes` of blobs (0: no limit) and forgets nothing by itself."""

    def __init__(self, *, max_bytes: int = 0) -> None:
        self._max_bytes = max_bytes
        self._blobs: dict[Digest, bytes] = {}
        self._bytes = 0

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        return {digest for digest in digests if digest.size and digest not in self._blobs}

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        if digest.size == 0:
            return
        data = self._blobs.get(digest)
        if data is None:
            raise BlobNotFound(digest)
        end = min(digest.size, offset + limit) if limit else digest.size
        for start in range(offset, end, CHUNK_SIZE):
            yield data[start : min(end, start + CHUNK_SIZE)]

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        if digest.size == 0 or digest in self._blobs:
            return
        verifier = Verifier(digest)
        data = bytearray()
        async for chunk in chunks:
            if digest in self._blobs:
                return
            verifier.add(chunk)
            if self._max_bytes and self._bytes + len(data) + len(chunk) > self._max_bytes:
                raise OutOfSpace(f"no space is left in memory for blob {digest}")
            data += chunk
        verifier.finish()
        if digest not in self._blobs:
            self._blobs[digest] = bytes(data)
            self._bytes += len(data)

    async def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs."""
        for digest in digests:
            self._bytes -= len(self._blobs.pop(digest, b""))
