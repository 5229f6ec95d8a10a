"""Bring the blobs of a server's result into the local tier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

from remote_apis.digest import Digest
from wrapper.local_tier import LocalTier
from wrapper.meter import meter
from wrapper.remote import Remote

_SMALL = 1 << 20


async def fetch_blobs(local: LocalTier, remote: Remote, digests: Iterable[Digest]) -> None:
    """Fetch those that are not here yet, each once however many ask. Raises DistbuildError."""
    before = dict(local.arriving)  # what comes while we look is not missing any more
    missing = await local.missing(digests)
    arriving = {**before, **local.arriving}
    coming = [arriving[digest] for digest in missing if digest in arriving]
    mine = missing - arriving.keys()
    loop = asyncio.get_running_loop()
    local.arriving.update({digest: loop.create_future() for digest in mine})
    small = [digest for digest in mine if digest.size <= _SMALL]
    pieces = [[digest] for digest in mine.difference(small)]
    if small:
        pieces.append(small)
    fetches = (_fetch(local, remote, piece) for piece in pieces)
    for outcome in await asyncio.gather(*fetches, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    if coming:
        # whoever fetched them may have failed, and then it is our turn
        await asyncio.wait(coming)
        await fetch_blobs(local, remote, await local.missing(missing - mine))


async def _fetch(local: LocalTier, remote: Remote, piece: list[Digest]) -> None:
    """Fetch a large blob, or some small ones in one call."""
    try:
        rest = await _not_beside(local, remote, piece)
        if not rest:
            return
        if rest[0].size <= _SMALL:
            await local.store_all(await remote.read_many(rest))
            return
        async with aclosing(remote.stream(rest[0])) as chunks:
            await local.store_stream(rest[0], chunks)
    finally:
        for digest in piece:
            local.arriving.pop(digest).set_result(None)


async def _not_beside(local: LocalTier, remote: Remote, piece: list[Digest]) -> list[Digest]:
    """Copy what is in the directory of a server on this machine; the others are returned."""
    if remote.blob_directory is None:
        return piece
    lacking = await local.copy_in(piece, remote.blob_directory)
    meter().received(sum(digest.size for digest in piece if digest not in lacking))
    return [digest for digest in piece if digest in lacking]


class Budget:
    """How many bytes may be on their way at a time. Who asks first goes first, so that what is
    needed first is here first; what is larger than all goes alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._turn = asyncio.Lock()
        self._is_freed = asyncio.Event()

    @asynccontextmanager
    async def room_for(self, size: int) -> AsyncIterator[None]:
        """Have room for so many bytes while entered."""
        async with self._turn:
            while self._taken and self._taken + size > self._size:
                self._is_freed.clear()
                await self._is_freed.wait()
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            self._is_freed.set()
