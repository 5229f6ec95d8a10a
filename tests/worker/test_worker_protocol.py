"""The worker's side of Buildbarn's worker protocol, against a scheduler that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue, serving_queue
from tests.worker.world import Inputs, World, open_world, serving, worker_config
from worker.config import host_properties
from worker.run import Worker, run_worker


@asynccontextmanager
async def scene(
    tmp_path: Path, queue: ScriptedQueue, **changes: object
) -> AsyncIterator[tuple[World, Worker]]:
    """A CAS, the queue and a worker without a sandbox."""
    changes = {"sandbox": "none"} | changes
    async with (
        open_world(queue) as world,
        serving(worker_config(world.url, tmp_path, **changes)) as worker,
    ):
        yield world, worker


async def action_of(world: World, script: str) -> Digest:
    root = await world.put_inputs(Inputs())
    return await world.put_action(re_pb.Command(arguments=["/bin/sh", "-c", script]), root)


async def test_a_worker_says_who_it_is_and_what_it_offers(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    offered = host_properties([("pool", "a"), ("pool", "b"), ("ISA", "z80")])
    async with scene(
        tmp_path, queue, name="w7", properties=offered, instance_prefix="team", slots=2
    ):
        async with asyncio.timeout(20):
            while len({tuple(sorted(r.worker_id.items())) for r in queue.requests}) < 2:
                await asyncio.sleep(0.01)
    ids = {tuple(sorted(request.worker_id.items())) for request in queue.requests}
    assert ids == {(("slot", "1"), ("worker", "w7")), (("slot", "2"), ("worker", "w7"))}
    request = queue.requests[0]
    assert request.instance_name_prefix == "team"
    pairs = [(each.name, each.value) for each in request.platform.properties]
    assert pairs == sorted(pairs)
    assert ("OSFamily", "linux") in pairs
    assert [value for name, value in pairs if name == "pool"] == ["a", "b"]
    assert [value for name, value in pairs if name == "ISA"] == ["z80"]


async def test_what_a_scheduler_sends_along_comes_back(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    async with scene(tmp_path, queue, instance_prefix="") as (world, _):
        digest = await action_of(world, "true")
        detail = AnyMessage()
        detail.Pack(re_pb.RequestMetadata(tool_invocation_id="build 7"))
        # The action itself comes with the lease, so that it need not be in the CAS.
        action = re_pb.Action.FromString(await world.cas.read(digest))
        renamed = Digest.of(b"not in the CAS", digest.function)
        lease = queue.give(
            renamed,
            action,
            auxiliary_metadata=[detail],
            instance_name_suffix="some/instance",
            w3c_trace_context={"traceparent": "00-1-2-00"},
        )
        await asyncio.wait_for(lease.done.wait(), 30)
        metadata = lease.response.result.execution_metadata
        assert lease.response.status.code == 0, lease.response.status
        assert metadata.queued_timestamp == lease.desired.queued_timestamp
        assert list(metadata.auxiliary_metadata) == [detail]
        assert queue.requests[-1].worker_id == {"worker": "worker-1"}


async def test_stages_that_last_are_reported(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.3)
    async with scene(tmp_path, queue) as (world, worker):
        lease = queue.give(await action_of(world, "sleep 1.5"))
        await queue.until("running")
        assert worker.slots[0].state.stage == "running"
        await lease.done.wait()
        assert lease.states.count("running") >= 3
        assert worker.slots[0].state.finished == 1


async def test_the_scheduler_can_cancel(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.2)
    async with scene(tmp_path, queue) as (world, worker):
        mark = tmp_path / "ran-on"
        queue.give(await action_of(world, f"sleep 2; touch {mark}"))
        await queue.until("running")
        queue.is_cancelling = True
        await queue.until("idle")
        assert worker.slots[0].state.action == ""
        response = await queue.execute(await action_of(world, "exit 4"))
        assert response.result.exit_code == 4
        await asyncio.sleep(1.8)
        assert not mark.exists()


async def test_the_scheduler_can_give_another_action_in_the_middle(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.2)
    async with scene(tmp_path, queue) as (world, _):
        queue.give(await action_of(world, "sleep 60"))
        await queue.until("running")
        response = await queue.execute(await action_of(world, "exit 5"))
        assert response.result.exit_code == 5


async def test_a_lease_that_is_repeated_is_not_begun_anew(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.2)
    async with scene(tmp_path, queue) as (world, _):
        count = tmp_path / "count"
        digest = await action_of(world, f"echo x >> {count}; sleep 1")
        lease = queue.give(digest)
        await queue.until("running")
        # As by a scheduler that lost the answer to the first report.
        lease.desired.action_digest.size_bytes += 0
        for _ in range(3):
            await asyncio.sleep(0.1)
        await lease.done.wait()
        assert count.read_text() == "x\n"


@pytest.mark.parametrize("clock_error", [-3600.0, 3600.0])
async def test_a_scheduler_with_a_wrong_clock(tmp_path: Path, clock_error: float) -> None:
    queue = ScriptedQueue(interval=0.2, poll=0.2)
    queue.clock_error = clock_error
    async with scene(tmp_path, queue) as (world, _):
        started = time.monotonic()
        response = await queue.execute(await action_of(world, "sleep 1"))
        assert response.result.exit_code == 0
        assert time.monotonic() - started < 10
        assert len(queue.requests) < 40


async def test_a_scheduler_that_vanishes_gets_the_result_when_it_is_back(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.2)
    async with open_world() as world:
        async with serving_queue(queue, "127.0.0.1:0") as port:
            config = worker_config(
                f"grpc://127.0.0.1:{port}", tmp_path, cas=world.url, sandbox="none"
            )
            lease = queue.give(await action_of(world, "sleep 1; exit 6"))
            stack = contextlib.AsyncExitStack()
            worker = await stack.enter_async_context(serving(config))
            await queue.until("running")
        async with stack:
            # The action ends while nobody listens.
            async with asyncio.timeout(20):
                while not worker.slots[0].state.finished:
                    await asyncio.sleep(0.05)
            assert not lease.done.is_set()
            assert not worker.slots[0].state.is_connected
            async with serving_queue(queue, f"127.0.0.1:{port}"), asyncio.timeout(20):
                await lease.done.wait()
        assert lease.response.result.exit_code == 6


async def test_a_worker_waits_for_a_scheduler_that_is_not_there_yet(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    queue.failures = 3
    async with scene(tmp_path, queue) as (world, _):
        response = await queue.execute(await action_of(world, "exit 3"))
        assert response.result.exit_code == 3


async def test_a_drain_finishes_the_action_and_takes_no_other(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.2)
    async with open_world(queue) as world:
        drain = asyncio.Event()
        config = worker_config(world.url, tmp_path, sandbox="none")
        run = asyncio.create_task(run_worker(config, drain=drain))
        lease = queue.give(await action_of(world, "sleep 1; exit 6"))
        await queue.until("running")
        drain.set()
        async with asyncio.timeout(20):
            await lease.done.wait()
            await run
        assert lease.response.result.exit_code == 6
        assert queue.requests[-1].prefer_being_idle
        assert queue.requests[-1].current_state.HasField("idle")


async def test_an_idle_worker_drains_at_once_and_says_so(tmp_path: Path) -> None:
    queue = ScriptedQueue(poll=60)
    async with open_world(queue) as world:
        drain = asyncio.Event()
        config = worker_config(world.url, tmp_path, sandbox="none", slots=2)
        run = asyncio.create_task(run_worker(config, drain=drain))
        await queue.until("idle")
        drain.set()
        started = time.monotonic()
        async with asyncio.timeout(20):
            await run
        assert time.monotonic() - started < 5
        assert [request.prefer_being_idle for request in queue.requests[-2:]] == [True, True]


async def test_a_worker_drains_without_a_scheduler(tmp_path: Path) -> None:
    config = worker_config("grpc://127.0.0.1:1", tmp_path, sandbox="none")
    drain = asyncio.Event()
    run = asyncio.create_task(run_worker(config, drain=drain))
    await asyncio.sleep(0.3)
    drain.set()
    async with asyncio.timeout(20):
        await run


async def test_a_killed_worker_kills_its_action_and_leaves_no_file(tmp_path: Path) -> None:
    queue = ScriptedQueue(interval=0.2)
    mark = tmp_path / "ran-on"
    async with open_world(queue) as world:
        async with serving(worker_config(world.url, tmp_path / "w", sandbox="none")):
            queue.give(await action_of(world, f"sleep 2; touch {mark}"))
            await queue.until("running")
        assert not (tmp_path / "w" / "slots").exists()
        await asyncio.sleep(2)
        assert not mark.exists()


async def test_a_scheduler_that_has_no_work_is_not_called_in_a_rush(tmp_path: Path) -> None:
    queue = ScriptedQueue(poll=0.0)
    async with scene(tmp_path, queue):
        await queue.until("idle")
        before = len(queue.requests)
        await asyncio.sleep(1)
        assert len(queue.requests) - before <= 60


@pytest.mark.parametrize("updates", [True, False])
async def test_results_are_written_where_the_scheduler_does_not(
    tmp_path: Path, updates: bool
) -> None:
    queue = ScriptedQueue()
    async with scene(tmp_path, queue, updates_action_cache=updates) as (world, _):
        good = await action_of(world, "echo said")
        response = await queue.execute(good)
        cached = await world.action_cache.get(good)
        assert (cached is not None) is updates
        if cached is not None:
            assert cached.stdout_digest == response.result.stdout_digest
            assert cached.execution_metadata.HasField("worker_completed_timestamp")
        bad = await action_of(world, "exit 1")
        await queue.execute(bad)
        assert await world.action_cache.get(bad) is None
        root = await world.put_inputs(Inputs())
        private = await world.put_action(
            re_pb.Command(arguments=["true"]), root, action=re_pb.Action(do_not_cache=True)
        )
        await queue.execute(private)
        assert await world.action_cache.get(private) is None


async def test_a_command_with_very_many_arguments_and_variables(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    async with scene(tmp_path, queue, sandbox="bubblewrap") as (world, _):
        variable = re_pb.Command.EnvironmentVariable
        command = re_pb.Command(
            arguments=["/bin/sh", "-c", "echo $# ${#LONG}", "sh", *["argument"] * 50_000],
            environment_variables=[variable(name="LONG", value="x" * 100_000)]
            + [variable(name=f"V{n}", value="value") for n in range(12_000)],
        )
        response = await world.run_command(command)
        assert response.status.code == 0, response.status
        assert await world.stdout(response) == "50000 100000\n"
        command.arguments.append("y" * 200_000)
        response = await world.run_command(command)
        assert response.status.code or response.result.exit_code
        assert (await world.run("exit 3")).result.exit_code == 3
