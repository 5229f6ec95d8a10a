"""Bring the blobs of a server's result into the local tier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing

from remote_apis.digest import Digest
from wrapper.local_tier import LocalTier
from wrapper.remote import Remote

_SMALL = 1 << 20


async def fetch_blobs(local: LocalTier, remote: Remote, digests: Iterable[Digest]) -> None:
    """Fetch those that are not here yet, each once however many ask. Raises DistbuildError."""
    missing = await local.missing(digests)
    coming = [local.arriving[digest] for digest in missing if digest in local.arriving]
    mine = missing - local.arriving.keys()
    loop = asyncio.get_running_loop()
    local.arriving.update({digest: loop.create_future() for digest in mine})
    small = [digest for digest in mine if digest.size <= _SMALL]
    fetches = [_fetch_large(local, remote, digest) for digest in mine.difference(small)]
    try:
        outcomes = await asyncio.gather(
            _fetch_small(local, remote, small), *fetches, return_exceptions=True
        )
    finally:
        for digest in mine:
            local.arriving.pop(digest).set_result(None)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    if coming:
        # whoever fetched them may have failed, and then it is our turn
        await asyncio.wait(coming)
        await fetch_blobs(local, remote, await local.missing(missing - mine))


async def _fetch_small(local: LocalTier, remote: Remote, digests: list[Digest]) -> None:
    if digests:
        await local.store_all(await remote.read_many(digests))


async def _fetch_large(local: LocalTier, remote: Remote, digest: Digest) -> None:
    async with aclosing(remote.stream(digest)) as chunks:
        await local.store_stream(digest, chunks)
