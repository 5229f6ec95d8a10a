"""One REAPI server as the wrapper uses it: look up, execute, fetch; and when to leave it alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from remote_apis.client.blobs import BlobSource
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import (
    DistbuildError,
    FailedPrecondition,
    MissingBlobs,
    Unavailable,
    Unsupported,
)
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2 as w_pb
from wrapper.action import BuiltAction, early_digest, platform_key
from wrapper.early import EarlyWatch, OnEarly
from wrapper.inputs.snapshot import Source
from wrapper.lookups import LookupsAhead
from wrapper.meter import meter
from wrapper.preferred import PREFERRED

if TYPE_CHECKING:
    from remote_apis.client.capabilities import Offer

LOOKUP_TIMEOUT = 5.0
SLOW_LOOKUP = 1.0
MAX_SLOW = 4
RETRY_AFTER = 20.0
TRUST_PRESENCE = 120.0
TRUST_SLOTS = 15.0

_NOT_FOR_US = (w_pb.Worker.DRAINING, w_pb.Worker.DRAINED, w_pb.Worker.AWAY)


class Remote:
    """Calls to one server and instance. Raises the errors of remote_apis.errors.

    After an Unavailable, or a few slow answers in a row, the server is left alone for 20 s, so that
    a build without it costs one failed call and not one a unit.
    """

    def __init__(
        self,
        url: str,
        instance: str,
        function: DigestFunction | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`function`: what the server is thought to take until `learn_function` has asked."""
        self.url = url
        self.function = function or PREFERRED
        self._learning = asyncio.Lock()
        self._ask_again_at = float("-inf")
        self._clock = clock
        self._offer: Offer | None = None
        from wrapper.clients import Clients  # noqa: PLC0415 - many builds have no server

        self._clients = Clients(url, instance)
        self._is_local = self._clients.is_local
        self._slots: int | None = None
        self._counted_until = 0.0
        self._refused_until: dict[bytes, float] = {}
        self.trouble = ""
        self._slow = 0
        self._transfers = 0
        self._executing = 0
        self._down_until = 0.0
        self._present: dict[Digest, float] = {}
        self._has: set[Digest] = set()
        self._uploading = asyncio.Lock()
        self._lookups = LookupsAhead(self._lookup, clock)

    @property
    def blob_directory(self) -> str | None:
        """Where a server on this machine has its blobs' files, as far as it has said so."""
        if self._offer is None or not self._is_local:
            return None  # others have no say about paths here
        return self._offer.blob_directory

    @property
    def is_down(self) -> bool:
        """Whether the server failed a short while ago."""
        return self._clock() < self._down_until

    async def learn_function(self) -> None:
        """Ask the server, once, which digest functions it has. Raises Unsupported for neither.

        Where it does not answer, what was thought goes on: one may not be able to say while a part
        of it is away, and serve all the same. Whoever looks something up finds out.
        """
        async with self._learning:
            if self._offer is None and not self.is_down and self._clock() >= self._ask_again_at:
                try:
                    await self._capabilities()
                except DistbuildError:
                    self._ask_again_at = self._clock() + RETRY_AFTER
        if self._offer is not None:
            self.function = function_of(self._offer.capabilities)

    def note(self, error: DistbuildError) -> None:
        """Leave the server alone for a while after it could not be reached."""
        if isinstance(error, Unavailable):
            self._leave_alone("cannot be reached")

    def _leave_alone(self, trouble: str) -> None:
        self.trouble = trouble
        self._down_until = self._clock() + RETRY_AFTER

    def look_ahead(self, actions: Iterable[Digest]) -> None:
        """Begin to look up what will be asked for."""
        self._lookups.begin(actions)

    def look_up_at_once(self, actions: Iterator[Digest]) -> None:
        """The same for what is asked for one after another as long as nothing is there.

        It is no use where the server is near, or the first is looked up already.
        """
        if not self._is_local and (first := next(actions)) not in self._lookups:
            self._lookups.begin([first, *actions])

    def has(self, action: Digest) -> bool:
        """Whether the server was seen to have a result of the action."""
        return action in self._has

    async def lookup(self, action: Digest) -> re_pb.ActionResult | None:
        """The cached result of an action, or None."""
        found = await self._lookups.get(action)
        if found is not None:
            self._has.add(action)
        return found

    async def _lookup(self, action: Digest) -> re_pb.ActionResult | None:
        started = self._clock()
        try:
            found = await asyncio.wait_for(self._clients.results.get(action), LOOKUP_TIMEOUT)
        except TimeoutError:
            raise Unavailable(f"it did not answer in {LOOKUP_TIMEOUT:.0f} s") from None
        # each unit asks, and most wait for another: a server this slow costs more than it saves;
        # but what waits behind blobs that are being fetched says nothing about the server
        is_slow = self._clock() - started > SLOW_LOOKUP and not self._transfers
        self._slow = self._slow + 1 if is_slow else 0
        if self._slow >= MAX_SLOW:
            self._slow = 0
            self._leave_alone("answers too slowly")
        return found

    async def execute(self, action: BuiltAction, on_early: OnEarly) -> re_pb.ExecuteResponse:
        """Upload what the server lacks and run the action; how it went is in the status.

        `on_early` gets the early outputs, if there are any, before this returns.
        """
        await self._upload(action.blobs)
        meter().executing()
        key = early_digest(action)
        early = EarlyWatch(lambda: self._clients.results.get(key), on_early)
        try:
            return await self._execute(action, early)
        except MissingBlobs:
            # evicted since it was last seen there
            self._present.clear()
            await self._upload(action.blobs)
            return await self._execute(action, early)
        except FailedPrecondition:
            self._refused_until[platform_key(action)] = self._clock() + RETRY_AFTER
            raise
        finally:
            await early.close()

    async def _execute(self, action: BuiltAction, early: EarlyWatch) -> re_pb.ExecuteResponse:
        self._executing += 1
        try:
            return await self._clients.execute(action.digest, early)
        finally:
            self._executing -= 1

    async def is_crowded(self) -> bool:
        """Whether as many actions of ours are under way as the workers run at a time."""
        slots = await self.slots()
        return slots is not None and self._executing >= slots

    async def publish(
        self, action: Digest, blobs: Mapping[Digest, Source], result: re_pb.ActionResult
    ) -> bool:
        """Store what was made here, and its result; False when the server takes none."""
        if not await self.takes_results():
            return False
        sources = (BlobSource(d, _content(s)) for d, s in blobs.items())
        meter().sent(_total(await self._clients.cas.upload_missing(sources)))
        await self._clients.results.update(action, result)
        self._has.add(action)
        return True

    async def takes_results(self) -> bool:
        """Whether the server lets us write its action cache."""
        cache = (await self._capabilities()).cache_capabilities
        return cache.action_cache_update_capabilities.update_enabled

    async def executes(self, action: BuiltAction) -> bool:
        """Whether there may be workers for an action behind the server, and not a cache alone.

        Asked before anything is uploaded: inputs are large.
        """
        offer = (await self._capabilities()).execution_capabilities
        refused_until = self._refused_until.get(platform_key(action), 0.0)
        return offer.exec_enabled and self._clock() >= refused_until and await self.slots() != 0

    async def slots(self) -> int | None:
        """How many actions the server's workers run at a time; None when it does not say."""
        if self._clock() >= self._counted_until:
            try:
                workers = await self._clients.workers.list()
                self._slots = sum(each.state not in _NOT_FOR_US for each in workers)
            except Unsupported:
                self._slots = None
            self._counted_until = self._clock() + TRUST_SLOTS
        return self._slots

    async def _capabilities(self) -> re_pb.ServerCapabilities:
        if self._offer is None:
            self._offer = await self._clients.offer()
        return self._offer.capabilities

    async def stream(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        """A blob in pieces, for a store, which verifies them. Raises BlobNotFound."""
        meter().received(digest.size)
        self._transfers += 1
        try:
            async for chunk in self._clients.cas.stream(digest, verifies=False):
                yield chunk
        finally:
            self._transfers -= 1

    async def read_many(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """Small blobs, verified. Raises MissingBlobs."""
        self._transfers += 1
        try:
            found = await self._clients.cas.read_many(digests)
        finally:
            self._transfers -= 1
        meter().received(sum(digest.size for digest in found))
        return found

    async def _upload(self, blobs: Mapping[Digest, Source]) -> None:
        # one at a time: units that start together share the toolchain and most dependencies
        async with self._uploading:
            now = self._clock()
            unknown = [d for d in blobs if now - self._present.get(d, -1e9) > TRUST_PRESENCE]
            sources = (BlobSource(d, _content(blobs[d])) for d in unknown)
            meter().sent(_total(await self._clients.cas.upload_missing(sources)))
            self._present.update(dict.fromkeys(unknown, now))

    async def close(self) -> None:
        """Close the connection."""
        self._lookups.close()
        await self._clients.close()


def function_of(offer: re_pb.ServerCapabilities) -> DigestFunction:
    """The digest function to use with a server. Raises Unsupported where it has neither."""
    offered = set(offer.cache_capabilities.digest_functions)
    execution = offer.execution_capabilities
    if execution.exec_enabled:
        runs = {execution.digest_function, *execution.digest_functions} - {0}
        offered = offered & runs or offered
    for function in (PREFERRED, DigestFunction.SHA256):
        if function.number in offered:
            return function
    if not offered:
        return DigestFunction.SHA256
    raise Unsupported("the server takes neither BLAKE3 nor SHA256")


def _total(digests: Iterable[Digest]) -> int:
    return sum(digest.size for digest in digests)


def _content(source: Source) -> bytes | Path:
    return source if isinstance(source, bytes) else Path(source)
