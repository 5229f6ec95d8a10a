"""Our own Workers service over the wire, and how it takes names."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.client.workers import WorkersClient
from remote_apis.errors import InvalidRequest, NotFound, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2 as w_pb
from server.rpc.operation_queue import worker_name
from server.rpc.workers import named
from server.scheduler.ports import MemoryDrainedWorkers
from tests.rpc.execution_server import ScriptedWorker, execution_server

State = w_pb.Worker.State
LINUX = (("OSFamily", "linux"),)


def states(workers: object) -> dict[str, str]:
    return {worker.name: State.Name(worker.state) for worker in workers}  # type: ignore[attr-defined]


async def until(client: WorkersClient, **wanted: str) -> None:
    async with asyncio.timeout(20):
        while states(await client.list()) != wanted:
            await asyncio.sleep(0.01)


async def test_a_workers_way_from_idle_to_drained_and_back() -> None:
    async with execution_server() as server:
        client = WorkersClient(server.channel)
        assert not await client.list()
        worker = ScriptedWorker(server, platform=LINUX, prefix="team")
        taking = asyncio.create_task(worker.take())
        await until(client, w1="IDLE")
        (shown,) = await client.list()
        assert shown.instance_name_prefix == "team"
        assert [(p.name, p.value) for p in shown.platform.properties] == [*LINUX]
        assert abs(shown.last_seen.ToNanoseconds() - time.time_ns()) < 60e9
        assert not shown.HasField("lease")

        digest = await server.put_action(platform=LINUX)
        calls = [server.execute(digest, instance_name="team/a") for _ in range(2)]
        names = {(await anext(aiter(call))).name for call in calls}
        work = await taking
        (shown,) = await client.list()
        assert (shown.state, {*shown.lease.operation_names}) == (State.RUNNING, names)
        assert shown.lease.action_digest == digest.to_message()
        assert shown.lease.digest_function == re_pb.DigestFunction.SHA256
        assert shown.last_seen.ToNanoseconds() + 60e9 > shown.lease.since.ToNanoseconds() > 0

        assert states(await client.drain(["w1"])) == {"w1": "DRAINING"}
        assert not (await worker.running(work)).HasField("desired_state")
        idle = asyncio.create_task(worker.completed(work, prefers_idle=False))
        await until(client, w1="DRAINED")
        other = await server.put_action(action=re_pb.Action(salt=b"other"), platform=LINUX)
        call = server.execute(other, instance_name="team")
        await anext(aiter(call))
        assert not idle.done()
        assert states(await client.resume(["w1"])) == {"w1": "RUNNING"}
        assert (await idle).desired_state.executing.action_digest == other.to_message()


async def test_a_drained_worker_is_known_before_it_comes() -> None:
    drained = MemoryDrainedWorkers()
    async with execution_server(drained=drained) as server:
        idle = asyncio.create_task(ScriptedWorker(server).idle())
        client = WorkersClient(server.channel)
        await until(client, w1="IDLE")
        await client.drain(["w1"])
        idle.cancel()
    async with execution_server(drained=drained) as server:
        client = WorkersClient(server.channel)
        (away,) = await client.list()
        assert away.state == State.AWAY and not away.HasField("last_seen")
        idle = asyncio.create_task(ScriptedWorker(server).idle())
        await until(client, w1="DRAINED")
        await anext(aiter(server.execute(await server.put_action())))
        assert states(await client.list()) == {"w1": "DRAINED"}
        assert await client.resume(["w1"])
        assert (await idle).desired_state.HasField("executing")


async def test_all_or_none() -> None:
    async with execution_server() as server:
        idle = [
            asyncio.create_task(ScriptedWorker(server, worker_id={"worker": name}).idle())
            for name in ("w1", "w2")
        ]
        client = WorkersClient(server.channel)
        await until(client, w1="IDLE", w2="IDLE")
        for call in (client.drain, client.resume):
            with pytest.raises(NotFound, match=r"there is no worker 'w3'; did you mean w\d or w\d"):
                await call(["w1", "w3"])
            with pytest.raises(InvalidRequest):
                await call([])
        assert states(await client.list()) == {"w1": "IDLE", "w2": "IDLE"}
        for task in idle:
            task.cancel()


class FullDisk(MemoryDrainedWorkers):
    """Cannot be written."""

    async def add(self, names: object) -> None:
        raise Unavailable("the database does not answer")


async def test_what_cannot_be_kept_is_not_done() -> None:
    async with execution_server(drained=FullDisk()) as server:
        idle = asyncio.create_task(ScriptedWorker(server).idle())
        client = WorkersClient(server.channel)
        await until(client, w1="IDLE")
        with pytest.raises(Unavailable, match="database"):
            await client.drain(["w1"])
        assert states(await client.list()) == {"w1": "IDLE"}
        idle.cancel()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["a"], ["a"]),
        (["b"], ["slot=1,worker=b", "slot=2,worker=b"]),
        (["slot=2,worker=b", "a"], ["a", "slot=2,worker=b"]),
    ],
)
def test_names_and_values_of_labels(words: list[str], found: list[str]) -> None:
    names = ["a", "slot=1,worker=a", "slot=1,worker=b", "slot=2,worker=b"]
    assert named(words, names) == found


def test_a_number_names_no_slot_of_every_machine() -> None:
    with pytest.raises(NotFound, match="'1'"):
        named(["1"], ["slot=1,worker=a", "slot=1,worker=b"])


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1), st.text())
def test_a_worker_is_found_by_its_name(labels: dict[str, str], other: str) -> None:
    name = worker_name(labels)
    assert name in named([name], {name, other})


@given(st.lists(st.text()), st.sets(st.text()))
def test_any_words(words: list[str], names: set[str]) -> None:
    try:
        assert {*named(words, names)} <= names
    except (NotFound, InvalidRequest) as error:
        assert str(error)
