"""Remembers for a while which blobs a far store has."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound
from server.blobstore.interface import BlobStore, reading


class ExistenceCachingBlobStore:
    """Decorates a store that is slow to ask and keeps what it has reported for `keep_seconds`."""

    def __init__(
        self,
        inner: BlobStore,
        *,
        keep_seconds: float = 60.0,
        max_digests: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._keep_seconds = keep_seconds
        self._max_digests = max_digests
        self._clock = clock
        self._present: OrderedDict[Digest, float] = OrderedDict()

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        oldest = self._clock() - self._keep_seconds
        present = self._present
        unknown = {digest for digest in digests if present.get(digest, oldest) <= oldest}
        if not unknown:
            return set()
        missing = await self._inner.find_missing(unknown)
        for digest in unknown - missing:
            self._note(digest)
        return missing

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        try:
            async with reading(self._inner, digest, offset, limit) as chunks:
                async for chunk in chunks:
                    yield chunk
        except BlobNotFound:
            self._present.pop(digest, None)
            raise

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        await self._inner.write(digest, chunks)
        self._note(digest)

    def _note(self, digest: Digest) -> None:
        self._present[digest] = self._clock()
        self._present.move_to_end(digest)
        while len(self._present) > self._max_digests:
            self._present.popitem(last=False)
