"""One slot of the worker: keeps in step with the scheduler and runs what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from remote_apis.client.retry import delays
from remote_apis.errors import DistbuildError, InvalidRequest, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from worker.assignment import Assignment, parse_assignment
from worker.job import Job, OnStage
from worker.lease_settings import LeaseSettings, SlotState
from worker.status import status_of_error

_LOG = logging.getLogger(__name__)


class Runner(Protocol):
    """What runs an action; `worker.action.ActionRunner`."""

    async def run(self, assignment: Assignment, on_stage: OnStage) -> re_pb.ExecuteResponse:
        """The outcome, whatever happens; only a cancellation is raised."""
        ...


class Queue(Protocol):
    """The scheduler; `worker.queue_client.QueueClient`. Raises the errors of a call."""

    async def synchronize(
        self, request: rw_pb.SynchronizeRequest, *, timeout: float
    ) -> rw_pb.SynchronizeResponse:
        """Tell what is, hear what is to be."""
        ...


class Slot:
    """Runs until drained. Everything here happens in one task, beside the action's own."""

    def __init__(
        self,
        settings: LeaseSettings,
        queue: Queue,
        runner: Runner,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._runner = runner
        self._clock = clock
        self._now = now
        self._changed = asyncio.Event()
        self._job: Job | None = None
        self._is_draining = False
        self._rest_until = 0.0
        # The call that may wait for work, and that a drain breaks off.
        self._poll: asyncio.Task[rw_pb.SynchronizeResponse] | None = None
        self.state = SlotState()

    def drain(self) -> None:
        """Finish the action at hand, ask for no other, then return from `run`."""
        self._is_draining = True
        self._changed.set()
        if self._poll is not None:
            self._poll.cancel()

    async def run(self) -> None:
        """Serve until drained; when cancelled, kill the action and leave."""
        try:
            wait = 0.0
            while not (self._is_draining and self._job is None):
                if self._job is not None:
                    await self._wait_for_news(self._job, wait)
                asked_at = self._clock()
                response = await self._synchronize()
                if response is None:
                    break
                wait = await self._apply(response)
                if self._job is None:
                    is_instant = self._clock() - asked_at < self._settings.shortest_poll
                    await self._pause(max(wait, self._settings.shortest_poll * is_instant))
            await self._say_goodbye()
        finally:
            await self._abandon()

    async def _wait_for_news(self, job: Job, wait: float) -> None:
        """Until the job is at another stage or done, or `wait` seconds are over."""
        if job.is_done and not job.is_reported:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait, self._settings.shortest_silence)):
                await self._changed.wait()
                self._changed.clear()
                # A stage that is over soon is not worth a call.
                async with asyncio.timeout(self._settings.stage_delay):
                    while not job.is_done and not self._is_draining:
                        await self._changed.wait()
                        self._changed.clear()

    async def _synchronize(self) -> rw_pb.SynchronizeResponse | None:
        """Tell the state until the scheduler has heard it; None when there is no more point."""
        waits = delays(self._settings.retry)
        failing_since: float | None = None
        while not (self._is_draining and self._job is None):
            try:
                response = await self._call()
                self.state.is_connected = True
                if response is not None:
                    return response
            except DistbuildError as error:
                now = self._clock()
                if failing_since is None:
                    failing_since = now
                    self.state.is_connected = False
                    _LOG.warning("slot %d: %s; trying again", self._settings.slot, error)
                if self._is_draining and now - failing_since > self._settings.drain_patience:
                    _LOG.error("slot %d: a result was lost: %s", self._settings.slot, error)
                    return None
                if not isinstance(error, Unavailable) and self._job and self._job.is_done:
                    self._job.replace_result(error, self._settings.worker)
                await self._pause(next(waits))
        return None

    async def _call(self) -> rw_pb.SynchronizeResponse | None:
        """One call; None when a drain began meanwhile and the scheduler is to be told so."""
        settings, job = self._settings, self._job
        request = rw_pb.SynchronizeRequest(
            worker_id=settings.worker_id,
            instance_name_prefix=settings.instance_prefix,
            platform=settings.platform,
        )
        is_done = job is not None and job.is_done
        if job is not None and job.lacked_room:
            self._rest_until = self._clock() + settings.rest_without_room
        request.prefer_being_idle = self._is_draining or self._clock() < self._rest_until
        if job is None:
            request.current_state.idle.SetInParent()
        else:
            request.current_state.executing.CopyFrom(job.state())
        if self._is_draining or (job is not None and not is_done):
            response = await self._queue.synchronize(request, timeout=settings.call_timeout)
        else:
            self._poll = asyncio.ensure_future(
                self._queue.synchronize(request, timeout=settings.long_poll)
            )
            try:
                response = await self._poll
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._is_draining or (task is not None and task.cancelling()):
                    self._poll.cancel()
                    raise
                return None
            finally:
                self._poll = None
        if job is not None and is_done:
            job.is_reported = True
        return response

    async def _apply(self, response: rw_pb.SynchronizeResponse) -> float:
        """Become what the scheduler wants. Returns the seconds until it wants to hear more."""
        desired = response.desired_state
        kind = desired.WhichOneof("worker_state")
        if kind == "idle":
            await self._abandon()
        elif kind == "executing" and not self._is_at_it(desired.executing):
            await self._abandon()
            self._start(desired.executing)
        until = response.next_synchronization_at.ToNanoseconds() / 1e9 - self._now()
        resting = self._rest_until - self._clock()
        longest = resting if resting > 0 else self._settings.longest_silence
        return min(max(until, 0.0), longest)

    def _is_at_it(self, desired: rw_pb.DesiredState.Executing) -> bool:
        """Whether this is the lease that is being worked on, repeated."""
        job = self._job
        return (
            job is not None
            and not job.is_reported
            and job.desired.action_digest == desired.action_digest
            and job.desired.queued_timestamp == desired.queued_timestamp
        )

    def _start(self, desired: rw_pb.DesiredState.Executing) -> None:
        job = Job(desired, self._changed, self.state)
        self._job = job
        self._changed.clear()
        try:
            assignment = parse_assignment(desired, self._settings.instance_prefix)
        except InvalidRequest as error:
            response = re_pb.ExecuteResponse()
            response.status.CopyFrom(status_of_error(error, self._settings.worker))
            job.finish(response)
        else:
            job.start(self._runner.run(assignment, job.on_stage))

    async def _abandon(self) -> None:
        """Kill the action at hand, if there is one, and forget it."""
        job, self._job = self._job, None
        if job is not None:
            await job.stop()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not through a drain or the end of the action."""
        if seconds > 0 and not self._is_draining:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
                    self._changed.clear()  # or the next pause would be none
        elif seconds > 0:
            await asyncio.sleep(min(seconds, 0.2))

    async def _say_goodbye(self) -> None:
        """Have the scheduler know at once that nothing given meanwhile is being worked on."""
        request = rw_pb.SynchronizeRequest(
            worker_id=self._settings.worker_id,
            instance_name_prefix=self._settings.instance_prefix,
            platform=self._settings.platform,
            prefer_being_idle=True,
        )
        request.current_state.idle.SetInParent()
        with contextlib.suppress(DistbuildError):
            await self._queue.synchronize(request, timeout=self._settings.goodbye_timeout)
