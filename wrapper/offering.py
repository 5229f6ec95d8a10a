"""Results that a server lacks, since they were kept while there was none, or while it was away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, command_of
from wrapper.inputs.snapshot import Source
from wrapper.local_tier import LocalTier, is_shared, named_blobs
from wrapper.notes import publish_note
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere
from wrapper.rustc.arguments import NotUnderstood

_LOG = logging.getLogger("distbuild.offering")
Note = tuple[BuiltAction, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A result of the local tier's. `more` are blobs that it names beside files and streams;
    `notes` tells what others need to know to find it."""

    action: BuiltAction
    result: re_pb.ActionResult
    notes: Callable[[], Awaitable[Iterable[Note]]]
    more: bytes | None = None


async def offer(local: LocalTier, remote: Remote, offered: Offer) -> None:
    """Have a server take a result, if it has none under that key. Raises nothing."""
    key, result = offered.action.digest, offered.result
    if remote.is_down or remote.has(key) or not is_shared(result):
        return
    try:
        if not await remote.takes_results() or await remote.lookup(key) is not None:
            return
        blobs: dict[Digest, Source] = {
            digest: str(await local.path(digest)) if digest.size else b""
            for digest in named_blobs(result, key.function)
        }
        if offered.more is not None:
            blobs[Digest.of(offered.more, key.function)] = offered.more
        for name, data in await offered.notes():
            await publish_note(name, data, remote)
        await remote.publish(key, {**blobs, **command_of(offered.action)}, result)
    except DistbuildError as error:
        remote.note(error)
        _LOG.info("%s does not get a result that is here: %s", remote.url, error)
    except (CompileHere, NotUnderstood, OSError) as error:
        _LOG.info("a result that is here is not offered: %s", error)
