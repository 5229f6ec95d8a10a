"""Which streams an action's output goes to, over the wire with a scripted worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.longrunning import operations_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2 as ls_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from server.blobstore.memory import MemoryBlobStore
from server.logstream.live import LiveOutputs
from server.logstream.streams import LogStreams
from tests.rpc.execution_server import (
    ExecutionServer,
    ScriptedWorker,
    execution_server,
    metadata_of,
    response_of,
)

EXECUTING = 3


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[LogStreams]:
    found = LogStreams(tmp_path / "live", max_streams=4)
    yield found
    found.close()


def streams_of(work: rw_pb.DesiredState.Executing) -> list[ls_pb.LogStream]:
    found = []
    for detail in work.auxiliary_metadata:
        message = ls_pb.LogStream()
        assert detail.Unpack(message)
        found.append(message)
    return found


async def read(streams: LogStreams, name: str, offset: int = 0, limit: int = 0) -> bytes:
    return b"".join([chunk async for chunk in streams.readable(name).read(offset, limit)])


async def names_now(server: ExecutionServer, name: str) -> tuple[str, str]:
    operation = await server.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
    metadata = metadata_of(operation)
    return metadata.stdout_stream_name, metadata.stderr_stream_name


@pytest.mark.row(73)
async def test_client_and_worker_are_told_of_the_same_streams(streams: LogStreams) -> None:
    async with execution_server(live=LiveOutputs(streams, MemoryBlobStore())) as server:
        digest = await server.put_action()
        call = aiter(server.execute(digest, instance_name="some/instance"))
        first = await anext(call)
        assert metadata_of(first).stdout_stream_name == ""
        worker = ScriptedWorker(server, prefix="some")
        work = await worker.take()
        stdout, stderr = streams_of(work)
        assert stdout.write_resource_name.startswith(stdout.name + "/")
        seen = metadata_of(await anext(call))
        assert seen.stage == EXECUTING
        assert (seen.stdout_stream_name, seen.stderr_stream_name) == (stdout.name, stderr.name)
        assert stdout.name.startswith("some/instance/logstreams/")
        assert stdout.name != stderr.name
        assert await names_now(server, first.name) == (stdout.name, stderr.name)

        await worker.running(work)
        stream = streams.writable(stdout.write_resource_name)
        await stream.append(0, b"printed", finish=False)
        result = re_pb.ActionResult()
        result.execution_metadata.auxiliary_metadata.extend(work.auxiliary_metadata)
        result.execution_metadata.auxiliary_metadata.add().Pack(re_pb.ToolDetails(tool_name="t"))
        await worker.completed(work, re_pb.ExecuteResponse(result=result))
        last = [operation async for operation in call][-1]
        kept = response_of(last).result.execution_metadata.auxiliary_metadata
        assert [detail.TypeName() for detail in kept] == [re_pb.ToolDetails.DESCRIPTOR.full_name]
        # finished, though the worker did not say so
        assert await read(streams, stdout.name) == b"printed"
        assert await read(streams, stderr.name) == b""


@pytest.mark.row(73)
@pytest.mark.parametrize("sent", [b"", b"all of ", b"all of it"])
@pytest.mark.parametrize("is_inline", [False, True])
async def test_what_the_worker_did_not_send_is_read_from_the_result(
    streams: LogStreams, sent: bytes, is_inline: bool
) -> None:
    store = MemoryBlobStore()
    async with execution_server(store=store, live=LiveOutputs(streams, store)) as server:
        call = aiter(server.execute(await server.put_action()))
        await anext(call)
        worker = ScriptedWorker(server)
        work = await worker.take()
        stdout, stderr = streams_of(work)
        following = asyncio.create_task(read(streams, stdout.name))
        await streams.writable(stdout.write_resource_name).append(0, sent, finish=False)
        await asyncio.sleep(0.05)
        assert not following.done()
        digest = await server.put(b"all of it")
        result = re_pb.ActionResult(stdout_digest=digest.to_message())
        if is_inline:
            result.stdout_raw = b"all of it"
        await worker.completed(work, re_pb.ExecuteResponse(result=result))
        assert await following == b"all of it"
        assert await read(streams, stdout.name, 5, 2) == b"f "
        assert await read(streams, stdout.name, 8) == b"t"
        assert await read(streams, stdout.name, 9) == b""
        assert await read(streams, stderr.name) == b""
        assert response_of([operation async for operation in call][-1])


@pytest.mark.row(73)
async def test_every_lease_has_streams_of_its_own(streams: LogStreams) -> None:
    async with execution_server(live=LiveOutputs(streams, MemoryBlobStore())) as server:
        action = re_pb.Action(do_not_cache=True)
        digest = await server.put_action(action=action)
        worker = ScriptedWorker(server)
        seen = set()
        for _ in range(5):
            call = aiter(server.execute(digest))
            name = (await anext(call)).name
            work = await worker.take()
            pair = tuple(stream.name for stream in streams_of(work))
            assert await names_now(server, name) == pair
            seen.add(pair)
            await worker.completed(work)
            assert response_of([operation async for operation in call][-1])
        assert len(seen) == 5


async def test_who_comes_to_see_it_when_it_is_over_is_told_the_streams_all_the_same(
    streams: LogStreams,
) -> None:
    live = LiveOutputs(streams, MemoryBlobStore())
    first, *others = (Digest.of(b"%d" % number, DigestFunction.SHA256) for number in range(3))
    pair = live.begin("worker", "", first)
    assert pair is not None
    live.end("worker")
    assert live.names("worker", first) == pair.readable
    assert live.begin("worker", "", others[0]) is not None
    assert live.names("worker", first) == pair.readable
    assert live.begin("worker", "", others[1]) is not None  # and the first ones are gone
    assert live.names("worker", first) is None
    assert all(live.names("worker", other) for other in others)
    assert live.names("another", first) is None


async def test_without_room_for_streams_actions_run_all_the_same(streams: LogStreams) -> None:
    for _ in range(4):
        streams.create("taken")
    async with execution_server(live=LiveOutputs(streams, MemoryBlobStore())) as server:
        call = aiter(server.execute(await server.put_action()))
        name = (await anext(call)).name
        worker = ScriptedWorker(server)
        work = await worker.take()
        assert not work.auxiliary_metadata
        assert await names_now(server, name) == ("", "")
        await worker.completed(work)
        assert response_of([operation async for operation in call][-1]).status.code == 0
