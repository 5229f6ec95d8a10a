"""Keeps a store below a size by forgetting what has not been used for longest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from typing import Protocol

from remote_apis.digest import Digest
from remote_apis.errors import OutOfSpace
from server.blobstore.interface import BlobStore

_LOG = logging.getLogger(__name__)
_BATCH = 500


class Evictable(BlobStore, Protocol):
    """A store that can say what it takes and what was used when."""

    @property
    def disk_bytes(self) -> int:
        """Real use of the disk."""
        ...

    def uses(self) -> Iterator[tuple[Digest, float, int]]:
        """Digest, last use and disk bytes, least recent first; invalid after an await."""
        ...

    async def remove(self, digests: Collection[Digest]) -> None:
        """Delete blobs; readers that have begun are not disturbed."""
        ...


class EvictingBlobStore:
    """Decorates a store. Above the high watermark blobs are evicted in the background, least
    recently used first, down to the low one.

    What was vouched for within `protect_seconds` (see `VouchingBlobStore`: inputs of operations,
    blobs of action cache hits) is never evicted. When that leaves too much, writes raise
    OutOfSpace.
    """

    def __init__(
        self,
        inner: Evictable,
        *,
        max_bytes: int,
        high: float = 0.95,
        low: float = 0.85,
        protect_seconds: float = 900.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`high` and `low` are parts of `max_bytes`; `clock` is that of the inner store."""
        self._inner = inner
        self._max_bytes = max_bytes
        self._high = int(high * max_bytes)
        self._low = int(low * max_bytes)
        self._protect_seconds = protect_seconds
        self._clock = clock
        self._incoming = 0
        self._sweep: asyncio.Task[None] | None = None
        # Until when; the first of them ends first, for each vouching moves to the end.
        self._protected: OrderedDict[Digest, float] = OrderedDict()

    def vouch(self, digests: Iterable[Digest]) -> None:
        """Keep blobs that are there from being evicted for `protect_seconds`."""
        now = self._clock()
        while self._protected and next(iter(self._protected.values())) <= now:
            self._protected.popitem(last=False)
        for digest in digests:
            self._protected[digest] = now + self._protect_seconds
            self._protected.move_to_end(digest)

    async def close(self) -> None:
        """Wait for an eviction under way."""
        if self._sweep is not None:
            await asyncio.wait([self._sweep])

    def start_if_needed(self) -> None:
        """Begin to evict in the background if the store is above the high watermark."""
        if self._use() > self._high and (self._sweep is None or self._sweep.done()):
            self._sweep = asyncio.get_running_loop().create_task(self._evict())

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        return await self._inner.find_missing(digests)

    def open_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        return self._inner.open_read(digest, offset, limit)

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        if not await self._inner.find_missing([digest]):
            await self._inner.write(digest, chunks)
            return
        if digest.size > self._max_bytes:
            raise OutOfSpace(f"blob {digest} is larger than the store ({self._max_bytes} bytes)")
        counted = _Counted(digest)
        try:
            await self._inner.write(digest, self._making_room(counted, chunks))
        finally:
            self._incoming -= counted.bytes
        self.start_if_needed()

    async def _making_room(
        self, counted: _Counted, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            counted.bytes += len(chunk)
            self._incoming += len(chunk)
            self.start_if_needed()
            while self._use() > self._max_bytes:
                if self._sweep is None or self._sweep.done():
                    raise OutOfSpace(
                        f"no room for blob {counted.digest}: all of the store's "
                        f"{self._max_bytes} bytes are in use"
                    )
                await asyncio.wait([self._sweep])
            yield chunk

    def _use(self) -> int:
        return self._inner.disk_bytes + self._incoming

    async def _evict(self) -> None:
        count = freed = 0
        while self._use() > self._low:
            victims, victim_bytes = self._victims(self._use() - self._low)
            if not victims:
                break
            await self._inner.remove(victims)
            count += len(victims)
            freed += victim_bytes
        _LOG.info("evicted %d blobs of %d bytes, %d are left", count, freed, self._use())

    def _victims(self, wanted: int) -> tuple[list[Digest], int]:
        now = self._clock()
        victims: list[Digest] = []
        found = 0
        for digest, _, size in self._inner.uses():
            if found >= wanted or len(victims) >= _BATCH:
                break
            if self._protected.get(digest, 0.0) > now:
                continue
            victims.append(digest)
            found += size
        return victims, found


class _Counted:
    """The bytes of one write under way, which the inner store does not report yet."""

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.bytes = 0
