"""Packing digests into batches that a server takes, and running the batches' calls."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from remote_apis.client.settings import ClientLimits
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction

# What a message adds to each blob: the digest, field headers, a status.
_OVERHEAD = 160


def grouped(digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    """One list for each digest function: all digests of a request have the same (REAPI 2.12)."""
    groups: dict[DigestFunction, list[Digest]] = {}
    for digest in digests:
        groups.setdefault(digest.function, []).append(digest)
    yield from groups.values()


def chunked(digests: Iterable[Digest], count: int) -> Iterator[list[Digest]]:
    """Lists of at most `count` digests, each of one function."""
    for group in grouped(digests):
        for start in range(0, len(group), count):
            yield group[start : start + count]


def batches(digests: Iterable[Digest], limits: ClientLimits) -> Iterator[list[Digest]]:
    """Lists whose blobs, with what a message adds to each, keep to `limits.batch_bytes`.

    A blob larger than that alone still gets a batch: callers send those another way.
    """
    for group in grouped(digests):
        batch: list[Digest] = []
        total = 0
        for digest in group:
            cost = digest.size + _OVERHEAD
            is_full = total + cost > limits.batch_bytes or len(batch) >= limits.batch_digests
            if batch and is_full:
                yield batch
                batch, total = [], 0
            batch.append(digest)
            total += cost
        yield batch


async def run_all(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first error cancels the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
