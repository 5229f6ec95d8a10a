"""A view of an evicting store for those whose answers must stay true for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from remote_apis.digest import Digest
from server.blobstore.evicting import EvictingBlobStore


class VouchingBlobStore:
    """What `find_missing` finds here is protected from eviction for a while.

    For completeness checking of action cache hits and for the inputs of operations; a client's
    own FindMissingBlobs goes to the evicting store and only counts as a use.
    """

    def __init__(self, inner: EvictingBlobStore) -> None:
        self._inner = inner

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        missing = await self._inner.find_missing(digests)
        self._inner.vouch(digest for digest in digests if digest not in missing)
        return missing

    def open_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        return self._inner.open_read(digest, offset, limit)

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        await self._inner.write(digest, chunks)
