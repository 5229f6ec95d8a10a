"""A worker's early outputs (remote_apis/early_outputs.py), as soon as they are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_FIRST_SECONDS = 0.4
_INTERVAL_SECONDS = 0.25

OnEarly = Callable[[re_pb.ActionResult], Awaitable[None]]


class EarlyWatch:
    """Asks for the early outputs of one execution, from when a worker has it until it is over.

    Asks only servers that send live output: of others no worker is known that has any.
    """

    def __init__(
        self, lookup: Callable[[], Awaitable[re_pb.ActionResult | None]], on_early: OnEarly
    ) -> None:
        self._lookup = lookup
        self._on_early = on_early
        self._task: asyncio.Task[None] | None = None
        self._is_found = False

    async def on_progress(self, progress: re_pb.ExecuteOperationMetadata) -> None:
        """The operation got on."""
        is_running = progress.stage == re_pb.ExecutionStage.EXECUTING
        if self._task is None and is_running and progress.stderr_stream_name:
            self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        await asyncio.sleep(_FIRST_SECONDS)
        with contextlib.suppress(DistbuildError):  # the execution's own calls say what is wrong
            while (found := await self._lookup()) is None:  # noqa: ASYNC110
                await asyncio.sleep(_INTERVAL_SECONDS)
            self._is_found = True
            await self._on_early(found)

    async def close(self) -> None:
        """Stop asking; what was found is delivered first."""
        if self._task is None:
            return
        if not self._is_found:
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
