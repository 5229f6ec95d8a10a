"""google.longrunning.Operations over the wire."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2 as lr_pb
from google.rpc import code_pb2

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.rpc.execution_server import (
    ExecutionServer,
    ScriptedWorker,
    execution_server,
    metadata_of,
    response_of,
)


async def start(server: ExecutionServer, salt: str, *, instance: str = "") -> str:
    """Start an operation; returns its name."""
    digest = await server.put_action(action=re_pb.Action(salt=salt.encode()))
    return str((await anext(aiter(server.execute(digest, instance_name=instance)))).name)


@pytest.mark.row(77)
async def test_get_operation_shows_it_before_and_after() -> None:
    async with execution_server() as server:
        name = await start(server, "a")
        request = lr_pb.GetOperationRequest(name=name)
        operation = await server.operations.GetOperation(request)
        assert (operation.name, operation.done) == (name, False)
        assert metadata_of(operation).stage == re_pb.ExecutionStage.QUEUED
        await ScriptedWorker(server).serve()
        done = await server.operations.WaitOperation(lr_pb.WaitOperationRequest(name=name))
        assert response_of(done).status.code == 0
        assert await server.operations.GetOperation(request) == done


async def test_list_operations_in_pages_and_by_instance() -> None:
    async with execution_server() as server:
        names = [await start(server, str(n)) for n in range(5)]
        other = await start(server, "x", instance="team/a")
        listed: list[str] = []
        token = ""
        while True:
            page = await server.operations.ListOperations(
                lr_pb.ListOperationsRequest(page_size=2, page_token=token)
            )
            assert len(page.operations) <= 2
            listed += [operation.name for operation in page.operations]
            token = page.next_page_token
            if not token:
                break
        assert listed == [*names, other]
        for name in ("team/a", "team/a/operations"):
            page = await server.operations.ListOperations(lr_pb.ListOperationsRequest(name=name))
            assert [operation.name for operation in page.operations] == [other]
        done = await server.operations.ListOperations(
            lr_pb.ListOperationsRequest(filter="done = true")
        )
        assert not done.operations


@pytest.mark.parametrize(
    "request_",
    [
        lr_pb.ListOperationsRequest(page_token="x"),
        lr_pb.ListOperationsRequest(page_token="²"),
        lr_pb.ListOperationsRequest(filter="colour=red"),
        lr_pb.ListOperationsRequest(page_size=-1),
    ],
)
async def test_a_bad_list_request_is_refused(request_: lr_pb.ListOperationsRequest) -> None:
    async with execution_server() as server:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await server.operations.ListOperations(request_)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.row(74)
async def test_cancel_ends_the_stream_with_cancelled() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        call = aiter(server.execute(digest))
        name = (await anext(call)).name
        await server.operations.CancelOperation(lr_pb.CancelOperationRequest(name=name))
        last = [operation async for operation in call][-1]
        assert response_of(last).status.code == code_pb2.CANCELLED
        # Once more does no harm.
        await server.operations.CancelOperation(lr_pb.CancelOperationRequest(name=name))


async def test_delete_only_what_is_done() -> None:
    async with execution_server() as server:
        name = await start(server, "a")
        request = lr_pb.DeleteOperationRequest(name=name)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await server.operations.DeleteOperation(request)
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        await server.operations.CancelOperation(lr_pb.CancelOperationRequest(name=name))
        await server.operations.WaitOperation(lr_pb.WaitOperationRequest(name=name))
        await server.operations.DeleteOperation(request)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await server.operations.GetOperation(lr_pb.GetOperationRequest(name=name))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_waiting_stops_at_the_timeout() -> None:
    async with execution_server() as server:
        name = await start(server, "a")
        request = lr_pb.WaitOperationRequest(name=name)
        request.timeout.nanos = 50_000_000
        async with asyncio.timeout(5):
            assert not (await server.operations.WaitOperation(request)).done


async def test_unknown_names_are_not_found() -> None:
    async with execution_server() as server:
        calls = (
            server.operations.GetOperation(lr_pb.GetOperationRequest(name="x")),
            server.operations.WaitOperation(lr_pb.WaitOperationRequest(name="x")),
            server.operations.CancelOperation(lr_pb.CancelOperationRequest(name="x")),
            server.operations.DeleteOperation(lr_pb.DeleteOperationRequest(name="x")),
        )
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_page_fits_into_a_message_however_large_the_responses() -> None:
    async with execution_server() as server:
        big = re_pb.ExecuteResponse(result=re_pb.ActionResult(stdout_raw=b"x" * 1_000_000))
        worker = ScriptedWorker(server)
        names = []
        for number in range(5):
            names.append(await start(server, str(number)))
            await worker.serve(big)
            await server.operations.WaitOperation(lr_pb.WaitOperationRequest(name=names[-1]))
        listed: list[str] = []
        token = ""
        while len(listed) < 5:
            page = await server.operations.ListOperations(
                lr_pb.ListOperationsRequest(page_token=token)
            )
            listed += [operation.name for operation in page.operations]
            token = page.next_page_token
        assert listed == names
        assert not token
