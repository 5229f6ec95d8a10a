"""A scheduler that does what a test says, over the wire, in the manner of Buildbarn's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc


@dataclass
class Lease:
    """An action given to a worker, and what came of it."""

    desired: rw_pb.DesiredState.Executing
    states: list[str] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    response: re_pb.ExecuteResponse = field(default_factory=re_pb.ExecuteResponse)

    def reached(self, state: str) -> bool:
        return state in self.states


class ScriptedQueue(rw_grpc.OperationQueueServicer):
    """One slot is expected to call. Idle calls wait for `give`, at most `poll` seconds.

    `interval` is when the worker is to report again, in seconds from now.
    """

    def __init__(self, *, poll: float = 5.0, interval: float = 1.0) -> None:
        self.requests: list[rw_pb.SynchronizeRequest] = []
        self.lease: Lease | None = None
        self.is_cancelling = False
        self.failures = 0
        self.clock_error = 0.0
        self._poll = poll
        self._interval = interval
        self._work = asyncio.Event()
        self._heard = asyncio.Condition()

    def give(self, digest: Digest, action: re_pb.Action | None = None, **more: Any) -> Lease:
        """Have the worker run an action, at once or when it asks."""
        desired = rw_pb.DesiredState.Executing(
            action_digest=digest.to_message(), digest_function=digest.function.name, **more
        )
        if action is not None:
            desired.action.CopyFrom(action)
        desired.queued_timestamp.GetCurrentTime()
        self.lease = Lease(desired)
        self._work.set()
        return self.lease

    async def execute(self, digest: Digest, **more: Any) -> re_pb.ExecuteResponse:
        """Have an action run; its response."""
        lease = self.give(digest, **more)
        async with asyncio.timeout(60):
            await lease.done.wait()
        return lease.response

    async def until(self, state: str) -> rw_pb.SynchronizeRequest:
        """Wait for a report of a state: idle, or one of CurrentState.Executing."""
        async with asyncio.timeout(30), self._heard:
            while not self.requests or _state_of(self.requests[-1]) != state:
                await self._heard.wait()
            return self.requests[-1]

    async def Synchronize(
        self, request: rw_pb.SynchronizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> rw_pb.SynchronizeResponse:
        async with self._heard:
            self.requests.append(request)
            self._heard.notify_all()
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        response = rw_pb.SynchronizeResponse()
        wait = self._interval
        state = _state_of(request)
        lease = self.lease
        if state == "idle":
            wait = await self._offer(response, prefers_idle=request.prefer_being_idle)
        elif lease is None or self.is_cancelling:
            response.desired_state.idle.SetInParent()
            self.lease, self.is_cancelling = None, False
        elif lease.desired.action_digest != request.current_state.executing.action_digest:
            response.desired_state.executing.CopyFrom(lease.desired)
        elif state == "completed":
            lease.response = request.current_state.executing.completed
            self.lease = None
            self._work.clear()
            lease.done.set()
            wait = 0.0
            response.desired_state.idle.SetInParent()
        else:
            lease.states.append(state)
        now = time.time() + self.clock_error
        response.next_synchronization_at.FromNanoseconds(int((now + wait) * 1e9))
        return response

    async def _offer(self, response: rw_pb.SynchronizeResponse, *, prefers_idle: bool) -> float:
        response.desired_state.idle.SetInParent()
        if prefers_idle:
            return 0.0
        try:
            async with asyncio.timeout(self._poll):
                await self._work.wait()
        except TimeoutError:
            return 0.0
        if self.lease is not None:
            response.desired_state.executing.CopyFrom(self.lease.desired)
        return self._interval


def _state_of(request: rw_pb.SynchronizeRequest) -> str:
    if request.current_state.WhichOneof("worker_state") == "executing":
        state = request.current_state.executing.WhichOneof("execution_state")
        assert state is not None
        return str(state)
    return "idle"


@asynccontextmanager
async def serving_queue(queue: ScriptedQueue, address: str) -> AsyncIterator[int]:
    """The queue alone on a port of its own, which is yielded."""
    server = grpc.aio.server()
    rw_grpc.add_OperationQueueServicer_to_server(queue, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
