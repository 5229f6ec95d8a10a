"""The remote worker protocol over the wire, as Buildbarn's workers speak it."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio
import pytest

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from server.rpc.operation_queue import worker_name
from server.scheduler.settings import SchedulerSettings
from tests.rpc.execution_server import ScriptedWorker, execution_server, response_of
from tests.scheduler.driving import spec_of

FAST_POLL = SchedulerSettings(poll_interval=0.1)


def state(response: rw_pb.SynchronizeResponse) -> str | None:
    """What the worker is told: idle, executing, or None for going on."""
    told: str | None = response.desired_state.WhichOneof("worker_state")
    return told


async def test_an_idle_worker_is_held_and_then_sent_round_again() -> None:
    async with execution_server(settings=FAST_POLL) as server:
        began = time.monotonic()
        response = await ScriptedWorker(server).idle()
        assert time.monotonic() - began >= 0.09
        assert state(response) == "idle"
        # The worker may call again at once.
        assert response.next_synchronization_at.ToNanoseconds() <= time.time_ns()


async def test_a_worker_that_prefers_to_be_idle_is_let_go_at_once() -> None:
    async with execution_server() as server:
        await server.scheduler.execute(spec_of())
        assert state(await ScriptedWorker(server).idle(prefers_idle=True)) == "idle"


async def test_the_work_carries_all_that_a_worker_needs() -> None:
    async with execution_server() as server:
        digest = await server.put_action(action=re_pb.Action(salt=b"s"))
        await anext(aiter(server.execute(digest, instance_name="a/b")))
        worker = ScriptedWorker(server, prefix="a")
        response = await worker.idle()
        work = response.desired_state.executing
        assert work.action_digest == digest.to_message()
        assert work.action.salt == b"s"
        assert work.action.command_digest.hash
        assert work.action.timeout.seconds > 0
        assert work.instance_name_suffix == "b"
        assert work.digest_function == re_pb.DigestFunction.SHA256
        assert abs(work.queued_timestamp.ToNanoseconds() - time.time_ns()) < 60e9
        assert response.next_synchronization_at.ToNanoseconds() > time.time_ns()


async def test_a_report_of_progress_is_answered_at_once_with_nothing_new() -> None:
    async with execution_server() as server:
        await anext(aiter(server.execute(await server.put_action())))
        worker = ScriptedWorker(server)
        work = await worker.take()
        response = await worker.running(work)
        assert state(response) is None
        assert response.next_synchronization_at.ToNanoseconds() > time.time_ns()


async def test_completing_is_answered_with_the_next_work() -> None:
    async with execution_server() as server:
        for salt in (b"1", b"2"):
            digest = await server.put_action(action=re_pb.Action(salt=salt))
            await anext(aiter(server.execute(digest)))
        worker = ScriptedWorker(server)
        first = await worker.take()
        response = await worker.completed(first, prefers_idle=False)
        second = response.desired_state.executing
        assert second.action.salt != first.action.salt


async def test_waiting_workers_get_work_the_moment_it_comes() -> None:
    async with execution_server() as server:
        taking = asyncio.create_task(ScriptedWorker(server).take())
        await asyncio.sleep(0.05)
        digest = await server.put_action()
        call = server.execute(digest)
        work = await asyncio.wait_for(taking, 5)
        await ScriptedWorker(server).completed(work)
        assert response_of([operation async for operation in call][-1]).status.code == 0


async def test_a_report_for_an_action_it_was_never_given_stops_the_worker() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        stray = rw_pb.DesiredState.Executing(action_digest=digest.to_message())
        worker = ScriptedWorker(server)
        assert state(await worker.running(stray)) == "idle"
        assert state(await worker.completed(stray)) == "idle"
        assert not server.scheduler.list_operations()


@pytest.mark.parametrize(
    "request_",
    [
        rw_pb.SynchronizeRequest(),
        rw_pb.SynchronizeRequest(worker_id={"worker": "w"}),
        rw_pb.SynchronizeRequest(
            worker_id={"worker": "w"},
            current_state=rw_pb.CurrentState(executing=rw_pb.CurrentState.Executing()),
        ),
        rw_pb.SynchronizeRequest(worker_id={"worker": "w"}, instance_name_prefix="a//b"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    request_: rw_pb.SynchronizeRequest,
) -> None:
    async with execution_server() as server:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await server.queue.Synchronize(request_)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not server.scheduler.workers()


@pytest.mark.parametrize(
    ("worker_id", "name"),
    [
        ({"worker": "w1"}, "w1"),
        ({"hostname": "h", "thread": "0"}, "hostname=h,thread=0"),
        ({"thread": "0", "hostname": "h"}, "hostname=h,thread=0"),
        ({"a": "b=c"}, "a=b=c"),
        ({"a": ""}, "a="),
    ],
)
def test_names_of_workers(worker_id: dict[str, str], name: str) -> None:
    assert worker_name(worker_id) == name


async def test_the_hold_ends_when_the_worker_hangs_up() -> None:
    async with execution_server() as server:
        polling = asyncio.create_task(ScriptedWorker(server).idle())
        await asyncio.sleep(0.05)
        polling.cancel()
        await asyncio.sleep(0.05)
        (worker,) = server.scheduler.workers()
        assert not worker.is_waiting
