"""Keeps the inputs of operations under way from being evicted while they wait."""

from __future__ import annotations

import asyncio
import logging

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all
from server.rpc.execution_checks import ExecutionLimits
from server.rpc.execution_inputs import InputRoots
from server.scheduler.driver import Scheduler

_LOG = logging.getLogger(__name__)


class InputKeeper:
    """Looks at the inputs of every unfinished operation often enough that none is evicted.

    Looking extends lifetimes. `every` seconds must be well below the time for which an evicting
    store protects what was used.
    """

    def __init__(self, scheduler: Scheduler, store: BlobStore, *, every: float = 300.0) -> None:
        self._scheduler = scheduler
        self._store = store
        self._every = every

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> int:
        """Look once at everything; the number of actions that were looked at."""
        actions = {snapshot.digest for snapshot in self._scheduler.unfinished_operations()}
        roots = InputRoots(self._store, ExecutionLimits())
        for digest in actions:
            try:
                await self._look_at(digest, roots)
            except DistbuildError as error:
                # the worker will find the same, and say so to those who wait
                _LOG.warning("the inputs of action %s cannot be kept: %s", digest, error)
        return len(actions)

    async def _look_at(self, digest: Digest, roots: InputRoots) -> None:
        action = re_pb.Action.FromString(await read_all(self._store, digest))
        command = Digest.from_message(action.command_digest, digest.function)
        await self._store.find_missing([digest, command])
        await roots.missing(Digest.from_message(action.input_root_digest, digest.function))
