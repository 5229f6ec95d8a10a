"""What actions print, while they run: a pair of log streams for each lease of a worker."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from itertools import islice

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError, InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, reading
from server.logstream.names import LogName
from server.logstream.stream import Whole
from server.logstream.streams import LogStreams

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePair:
    """The streams of one lease; the names carry the tokens that its worker writes with."""

    digest: Digest
    stdout: LogName
    stderr: LogName

    @property
    def readable(self) -> tuple[str, str]:
        """The names of stdout and stderr for clients."""
        return str(replace(self.stdout, token=None)), str(replace(self.stderr, token=None))


class LiveOutputs:
    """The pairs of the leases that workers have, by the worker's name.

    `store` is where results have their outputs.
    """

    def __init__(self, streams: LogStreams, store: BlobStore) -> None:
        self._streams = streams
        self._store = store
        self._pairs: dict[str, LivePair] = {}
        # A client may come to see that an action runs when its lease is over already.
        self._readable: OrderedDict[tuple[str, Digest], LivePair] = OrderedDict()

    def begin(self, worker: str, instance: str, digest: Digest) -> LivePair | None:
        """The worker has a new lease. None when there can be no more streams."""
        self.end(worker)
        try:
            pair = LivePair(
                digest=digest,
                stdout=self._streams.create(instance),
                stderr=self._streams.create(instance),
            )
        except DistbuildError as error:
            _LOG.info("no live output of %s: %s", digest, error)
            return None
        self._pairs[worker] = pair
        self._readable[worker, digest] = pair
        self._forget_removed()
        return pair

    def keep(self, worker: str) -> None:
        """The lease goes on."""
        pair = self._pairs.get(worker)
        if pair is not None:
            self._streams.keep(pair.stdout)
            self._streams.keep(pair.stderr)

    def end(self, worker: str, result: re_pb.ActionResult | None = None) -> None:
        """The lease is over: whoever reads its streams comes to their end.

        What the worker has not sent, and many send nothing, is taken from the result.
        """
        pair = self._pairs.pop(worker, None)
        if pair is not None:
            for output, stream in (("stdout", pair.stdout), ("stderr", pair.stderr)):
                whole = None if result is None else self._printed(result, output, pair.digest)
                self._streams.finish(stream, whole)

    def _printed(self, result: re_pb.ActionResult, output: str, action: Digest) -> Whole | None:
        raw: bytes = getattr(result, f"{output}_raw")
        if raw:
            return _Inline(raw)
        try:
            digest = Digest.from_message(getattr(result, f"{output}_digest"), action.function)
        except InvalidRequest:
            return None  # there is none, or it is refused elsewhere
        return _InStore(digest, self._store)

    def names(self, worker: str, digest: Digest) -> tuple[str, str] | None:
        """Where clients read what a worker's action prints."""
        pair = self._readable.get((worker, digest))
        return None if pair is None else pair.readable

    def _forget_removed(self) -> None:
        """Look at two for each that comes: there are at most twice as many as have streams."""
        for lease, pair in list(islice(self._readable.items(), 2)):
            if self._streams.has(pair.stdout):
                self._readable.move_to_end(lease)
            else:
                del self._readable[lease]


@dataclass(frozen=True, slots=True)
class _Inline:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, offset: int, limit: int) -> AsyncGenerator[bytes, None]:
        yield self.data[offset : offset + limit]


@dataclass(frozen=True, slots=True)
class _InStore:
    digest: Digest
    store: BlobStore

    @property
    def size(self) -> int:
        return self.digest.size

    async def read(self, offset: int, limit: int) -> AsyncGenerator[bytes, None]:
        async with reading(self.store, self.digest, offset, limit) as chunks:
            async for chunk in chunks:
                yield chunk
