"""Workers that do nothing but answer, so that the server's share of the time is seen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc.aio

from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc


@contextlib.asynccontextmanager
async def scripted_workers(
    channel: grpc.aio.Channel, count: int
) -> AsyncIterator[dict[str, float]]:
    """Yields when each action reached a worker, by its hash."""
    queue = rw_grpc.OperationQueueStub(channel)
    received: dict[str, float] = {}

    async def work(number: int) -> None:
        request = rw_pb.SynchronizeRequest(worker_id={"worker": str(number)})
        request.current_state.idle.SetInParent()
        while True:
            answer = await queue.Synchronize(request)
            request.current_state.Clear()
            if answer.desired_state.WhichOneof("worker_state") != "executing":
                request.current_state.idle.SetInParent()
                continue
            work = answer.desired_state.executing
            received[work.action_digest.hash] = time.perf_counter()
            done = request.current_state.executing
            done.action_digest.CopyFrom(work.action_digest)
            metadata = done.completed.result.execution_metadata
            metadata.worker = str(number)
            metadata.queued_timestamp.CopyFrom(work.queued_timestamp)

    tasks = [asyncio.create_task(work(number)) for number in range(count)]
    try:
        yield received
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def idle_worker(channel: grpc.aio.Channel) -> AsyncIterator[None]:
    """One worker that takes an action and goes on running it."""
    queue = rw_grpc.OperationQueueStub(channel)

    async def work() -> None:
        request = rw_pb.SynchronizeRequest(worker_id={"worker": "busy"})
        request.current_state.idle.SetInParent()
        while True:
            answer = await queue.Synchronize(request)
            if answer.desired_state.WhichOneof("worker_state") == "executing":
                running = request.current_state.executing
                running.action_digest.CopyFrom(answer.desired_state.executing.action_digest)
                running.running.SetInParent()
            await asyncio.sleep(0.2)

    task = asyncio.create_task(work())
    try:
        await asyncio.sleep(0.5)  # it is known once its first call has arrived
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
