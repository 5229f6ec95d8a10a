"""Hands out an action's early outputs (remote_apis/early_outputs.py) while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.client.blobs import BlobSource
from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from remote_apis.early_outputs import VARIABLE, early_action, paths_said
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.command import CommandSpec
from worker.output_tree import OutputBlobs
from worker.outputs import collect_outputs
from worker.paths import ActionRoot

_LOG = logging.getLogger(__name__)
_FIRST_SECONDS = 0.3
"""Who is done by then needs nobody to wait less."""
_INTERVAL_SECONDS = 0.05
_MAX_PRINTED = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyOutputs:
    """What one action has to hand out, and to whom."""

    action: re_pb.Action
    digest: Digest
    command: CommandSpec
    root: ActionRoot
    blobs: OutputBlobs
    stdout: Path
    stderr: Path
    cas: CasClient
    action_cache: ActionCacheClient

    @asynccontextmanager
    async def watched(
        self, in_thread: Callable[[Callable[[], bool]], Awaitable[bool]]
    ) -> AsyncIterator[None]:
        """Hand them out, once, while the block runs. What goes wrong with it is no error."""
        paths = paths_said(self.command.environment.get(VARIABLE, ""))
        wanted = {output.path: output for output in self.command.outputs if output.path in paths}
        if not wanted or paths[0] not in wanted:
            yield
            return
        command = replace(self.command, outputs=tuple(wanted.values()))
        task = asyncio.create_task(self._watch(command, wanted[paths[0]].inside, in_thread))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(
        self,
        command: CommandSpec,
        first: str,
        in_thread: Callable[[Callable[[], bool]], Awaitable[bool]],
    ) -> None:
        result = re_pb.ActionResult()
        await asyncio.sleep(_FIRST_SECONDS)
        try:
            # a file that another program makes: nothing here could set an event
            while not await in_thread(  # noqa: ASYNC110
                lambda: self._collect(command, first, result)
            ):
                await asyncio.sleep(_INTERVAL_SECONDS)
            await self._hand_out(result)
        except (DistbuildError, OSError) as error:
            _LOG.info("no early outputs: %s", error)

    def _collect(self, command: CommandSpec, first: str, result: re_pb.ActionResult) -> bool:
        """Whether they are there, and then in `result`. Blocks. Raises OSError."""
        path = self.root.resolve(first, follow_last=False)
        if path is None or not path.is_file():
            return False
        with self.stderr.open("rb") as file:
            printed = file.read(_MAX_PRINTED)
        if path.name.encode() not in printed:
            return False
        result.stderr_raw = printed[: printed.rfind(b"\n") + 1]
        with self.stdout.open("rb") as file:
            result.stdout_raw = file.read(_MAX_PRINTED)
        collect_outputs(command, self.root, result, self.blobs)
        return True

    async def _hand_out(self, result: re_pb.ActionResult) -> None:
        action = early_action(self.action, self.digest)
        key = Digest.of(action, self.blobs.function)
        blobs = [*self.blobs.blobs.values(), BlobSource(key, action)]
        await self.cas.upload_missing(blobs)
        await self.action_cache.update(key, result)
