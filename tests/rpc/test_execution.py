"""Execute and WaitExecution over the wire, with a scripted worker."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey
from server.rpc.execution import REQUEST_METADATA
from server.scheduler.ports import MemoryRepository
from server.scheduler.settings import SchedulerSettings
from tests.rpc.execution_server import (
    SHA256,
    ExecutionServer,
    ScriptedWorker,
    execution_server,
    metadata_of,
    response_of,
)

QUEUED, EXECUTING, COMPLETED = 2, 3, 4


def wait_execution(server: ExecutionServer, name: str) -> Any:
    """Call WaitExecution."""
    return server.execution.WaitExecution(re_pb.WaitExecutionRequest(name=name))


@pytest.mark.row(68)
@pytest.mark.row(69)
@pytest.mark.row(70)
@pytest.mark.row(72)
@pytest.mark.row(76)
async def test_an_action_runs_and_both_streams_end_with_its_result() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        call = aiter(server.execute(digest))
        first = await anext(call)
        assert (metadata_of(first).stage, first.done) == (QUEUED, False)
        assert metadata_of(first).action_digest == digest.to_message()
        wait = aiter(wait_execution(server, first.name))
        assert metadata_of(await anext(wait)).stage == QUEUED

        worker = ScriptedWorker(server)
        work = await worker.take()
        assert metadata_of(await anext(call)).stage == EXECUTING
        stdout = await server.put(b"hello")
        result = re_pb.ActionResult(stdout_digest=stdout.to_message())
        await worker.completed(work, re_pb.ExecuteResponse(result=result))

        for stream in (call, wait):
            last = [operation async for operation in stream][-1]
            assert last.name == first.name
            assert metadata_of(last).stage == COMPLETED
            response = response_of(last)
            assert response.result.stdout_digest == stdout.to_message()
            assert not response.cached_result
            metadata = response.result.execution_metadata
            assert metadata.worker == "w1"
            assert metadata.queued_timestamp == work.queued_timestamp


@pytest.mark.row(76)
async def test_waiting_for_an_unknown_operation_is_not_found() -> None:
    async with execution_server() as server:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await anext(aiter(wait_execution(server, "operations/none")))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.row(83)
async def test_the_second_request_is_answered_from_the_cache() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        serving = asyncio.create_task(ScriptedWorker(server).serve())
        assert not (await server.outcome(digest)).cached_result
        await serving
        operations = [operation async for operation in server.execute(digest)]
        assert len(operations) == 1
        assert metadata_of(operations[0]).stage == COMPLETED
        assert response_of(operations[0]).cached_result
        again = [operation async for operation in wait_execution(server, operations[0].name)]
        assert response_of(again[-1]).cached_result


@pytest.mark.row(79)
@pytest.mark.row(80)
async def test_skipping_the_cache_runs_again_and_replaces_the_result() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        old = re_pb.ActionResult(stdout_raw=b"old")
        await server.cache.put(ActionKey("", digest), old)
        new = re_pb.ExecuteResponse(result=re_pb.ActionResult(stdout_raw=b"new"))
        serving = asyncio.create_task(ScriptedWorker(server).serve(new))
        response = await server.outcome(digest, skip_cache_lookup=True)
        await serving
        assert (response.cached_result, response.result.stdout_raw) == (False, b"new")
        assert (await server.outcome(digest)).result.stdout_raw == b"new"


@pytest.mark.row(79)
async def test_skipping_the_cache_may_join_what_is_in_flight() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        first = asyncio.create_task(server.outcome(digest))
        worker = ScriptedWorker(server)
        work = await worker.take()
        second = asyncio.create_task(server.outcome(digest, skip_cache_lookup=True))
        await asyncio.sleep(0.05)
        await worker.completed(work)
        assert await first == await second


@pytest.mark.row(81)
async def test_do_not_cache_keeps_the_result_out_of_the_cache() -> None:
    async with execution_server() as server:
        digest = await server.put_action(action=re_pb.Action(do_not_cache=True))
        serving = asyncio.create_task(ScriptedWorker(server).serve(times=2))
        for _ in range(2):
            assert not (await server.outcome(digest)).cached_result
        await serving
        assert await server.cache.get(ActionKey("", digest)) is None


@pytest.mark.row(82)
@pytest.mark.row(85)
async def test_a_timeout_is_passed_on_with_its_partial_result_and_not_cached() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        late = re_pb.ExecuteResponse(
            status=status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message="too slow"),
            result=re_pb.ActionResult(stderr_raw=b"so far", exit_code=-1),
        )
        serving = asyncio.create_task(ScriptedWorker(server).serve(late))
        response = await server.outcome(digest)
        await serving
        assert response.status.code == code_pb2.DEADLINE_EXCEEDED
        assert response.result.stderr_raw == b"so far"
        assert await server.cache.get(ActionKey("", digest)) is None


@pytest.mark.row(82)
async def test_a_failed_command_is_given_out_and_not_cached() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        failed = re_pb.ExecuteResponse(result=re_pb.ActionResult(exit_code=1))
        serving = asyncio.create_task(ScriptedWorker(server).serve(failed))
        response = await server.outcome(digest)
        await serving
        assert (response.status.code, response.result.exit_code) == (0, 1)
        assert await server.cache.get(ActionKey("", digest)) is None


async def test_a_result_whose_blobs_are_missing_is_not_believed() -> None:
    settings = SchedulerSettings(max_attempts=2)
    async with execution_server(settings=settings) as server:
        digest = await server.put_action()
        nowhere = Digest.of(b"never uploaded", SHA256).to_message()
        lie = re_pb.ExecuteResponse(
            result=re_pb.ActionResult(output_files=[re_pb.OutputFile(path="out", digest=nowhere)])
        )
        serving = asyncio.create_task(ScriptedWorker(server).serve(lie, times=2))
        response = await server.outcome(digest)
        await serving
        assert response.status.code == code_pb2.DATA_LOSS
        assert "worker w1" in response.status.message
        assert await server.cache.get(ActionKey("", digest)) is None


@pytest.mark.row(66)
@pytest.mark.row(67)
async def test_what_is_wished_for_comes_inline_and_nothing_else() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        stdout, stderr = await server.put(b"to stdout"), await server.put(b"to stderr")
        one, two = await server.put(b"first"), await server.put(b"second")
        result = re_pb.ActionResult(
            stdout_digest=stdout.to_message(),
            stderr_digest=stderr.to_message(),
            stderr_raw=b"to stderr",
            output_files=[
                re_pb.OutputFile(path="a/one", digest=one.to_message()),
                re_pb.OutputFile(path="two", digest=two.to_message(), contents=b"second"),
            ],
        )
        serving = asyncio.create_task(
            ScriptedWorker(server).serve(re_pb.ExecuteResponse(result=result))
        )
        for _ in range(2):  # run, then cached
            response = await server.outcome(
                digest, inline_stdout=True, inline_output_files=["a/one"]
            )
            assert response.result.stdout_raw == b"to stdout"
            assert response.result.stderr_raw == b""
            assert [file.contents for file in response.result.output_files] == [b"first", b""]
        await serving


@pytest.mark.row(72)
@pytest.mark.parametrize("function", [DigestFunction.BLAKE3, DigestFunction.SHA512])
async def test_every_digest_function_runs(function: DigestFunction) -> None:
    async with execution_server() as server:
        digest = await server.put_action(function=function)
        call = aiter(server.execute(digest))
        first = await anext(call)
        assert metadata_of(first).digest_function == function.number
        worker = ScriptedWorker(server)
        work = await worker.take()
        assert work.digest_function == function.number
        await worker.completed(work)
        assert response_of([operation async for operation in call][-1]).status.code == 0


@pytest.mark.row(84)
async def test_salt_and_timeout_make_other_actions() -> None:
    async with execution_server() as server:
        plain = await server.put_action()
        salted = await server.put_action(action=re_pb.Action(salt=b"x"))
        limited = re_pb.Action()
        limited.timeout.seconds = 5
        timed = await server.put_action(action=limited)
        calls = [aiter(server.execute(digest)) for digest in (plain, salted, timed)]
        for call in calls:
            await anext(call)
        worker = ScriptedWorker(server)
        hashes = set()
        for _ in range(3):
            work = await worker.take()
            hashes.add(work.action_digest.hash)
            await worker.completed(work)
        assert hashes == {plain.hash, salted.hash, timed.hash}


@pytest.mark.row(78)
async def test_a_dropped_stream_leaves_the_operation_to_wait_execution() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        call = server.execute(digest)
        name = (await anext(aiter(call))).name
        call.cancel()
        worker = ScriptedWorker(server)
        work = await worker.take()
        await worker.completed(work)
        last = [operation async for operation in wait_execution(server, name)][-1]
        assert response_of(last).status.code == 0


@pytest.mark.row(106)
@pytest.mark.row(107)
async def test_priority_and_request_metadata_reach_the_scheduler() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        metadata = re_pb.RequestMetadata(
            tool_invocation_id="build-1", action_mnemonic="CppCompile", target_id="//a:b"
        )
        request = re_pb.ExecuteRequest(
            action_digest=digest.to_message(),
            execution_policy=re_pb.ExecutionPolicy(priority=-3),
        )
        call = aiter(
            server.execution.Execute(
                request, metadata=((REQUEST_METADATA, metadata.SerializeToString()),)
            )
        )
        await anext(call)
        (snapshot,) = server.scheduler.list_operations()
        assert (snapshot.priority, snapshot.invocation) == (-3, "build-1")
        assert snapshot.label == "CppCompile //a:b"


async def test_request_metadata_that_makes_no_sense_is_ignored() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        request = re_pb.ExecuteRequest(action_digest=digest.to_message())
        call = server.execution.Execute(request, metadata=((REQUEST_METADATA, b"\xff\xff"),))
        assert metadata_of(await anext(aiter(call))).stage == QUEUED


async def test_instances_may_span_segments_and_are_part_of_the_name() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        call = aiter(server.execute(digest, instance_name="team/a"))
        first = await anext(call)
        assert first.name.startswith("team/a/operations/")
        worker = ScriptedWorker(server, prefix="team")
        work = await worker.take()
        assert work.instance_name_suffix == "a"
        await worker.completed(work)
        assert response_of([operation async for operation in call][-1]).status.code == 0
        assert await server.cache.get(ActionKey("team/a", digest)) is not None
        assert await server.cache.get(ActionKey("", digest)) is None


async def test_a_restart_of_the_server_goes_unnoticed_by_patient_clients() -> None:
    repository = MemoryRepository()
    async with execution_server(repository=repository) as server:
        digest = await server.put_action()
        call = aiter(server.execute(digest))
        name = (await anext(call)).name
        store = server.store
        await server.scheduler.close()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await anext(call)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    async with execution_server(repository=repository, store=store) as server:
        assert metadata_of(await anext(aiter(wait_execution(server, name)))).stage == QUEUED
        worker = ScriptedWorker(server)
        work = await worker.take()
        await worker.completed(work)
        last = [operation async for operation in wait_execution(server, name)][-1]
        assert response_of(last).status.code == 0
