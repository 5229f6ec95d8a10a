"""The action that a slot has at hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from google.rpc import code_pb2

from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from worker.lease_settings import SlotState
from worker.status import status_of_error


class Stage(Enum):
    """What a worker is doing with an action; the values are fields of the worker protocol."""

    STARTED = "started"
    FETCHING_INPUTS = "fetching_inputs"
    RUNNING = "running"
    UPLOADING_OUTPUTS = "uploading_outputs"


OnStage = Callable[[Stage], None]


class Job:
    """One lease: the task that works on it, and how far it has got.

    `changed` is set at each stage and at the end; `state` is kept up to date for the health page.
    """

    def __init__(
        self, desired: rw_pb.DesiredState.Executing, changed: asyncio.Event, state: SlotState
    ) -> None:
        self.desired = desired
        self.is_reported = False
        self._changed = changed
        self._slot_state = state
        self._stage = Stage.STARTED
        self._task: asyncio.Task[None] | None = None
        self._response: re_pb.ExecuteResponse | None = None
        state.action = desired.action_digest.hash
        state.stage = self._stage.value

    @property
    def is_done(self) -> bool:
        """Whether there is a result to report."""
        return self._response is not None

    @property
    def lacked_room(self) -> bool:
        """Whether it came to nothing because a disk was full, this worker's or the server's."""
        full: int = code_pb2.RESOURCE_EXHAUSTED
        return self._response is not None and self._response.status.code == full

    def start(self, work: Coroutine[Any, Any, re_pb.ExecuteResponse]) -> None:
        """Work in a task of its own, which `stop` ends."""

        async def to_the_end() -> None:
            self.finish(await work)

        self._task = asyncio.create_task(to_the_end())

    def on_stage(self, stage: Stage) -> None:
        """Note that the work got to a stage."""
        self._stage = stage
        self._slot_state.stage = stage.value
        self._changed.set()

    def finish(self, response: re_pb.ExecuteResponse) -> None:
        """Note the result."""
        self._response = response
        # at once: the call that reports it also waits for the next action
        self._show_idle()
        self._slot_state.finished += 1
        self._changed.set()

    def replace_result(self, error: DistbuildError, worker: str) -> None:
        """The scheduler refused the result, being too big for instance: report that instead."""
        self._response = re_pb.ExecuteResponse(status=status_of_error(error, worker))

    async def stop(self) -> None:
        """Cancel the work if it is not over, and wait until nothing of it is left."""
        self._show_idle()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _show_idle(self) -> None:
        self._slot_state.action = ""
        self._slot_state.stage = "idle"

    def state(self) -> rw_pb.CurrentState.Executing:
        """The progress, in the form of the worker protocol."""
        state = rw_pb.CurrentState.Executing(action_digest=self.desired.action_digest)
        if self._response is not None:
            state.completed.CopyFrom(self._response)
        else:
            getattr(state, self._stage.value).SetInParent()
        return state
