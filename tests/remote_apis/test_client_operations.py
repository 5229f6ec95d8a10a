"""The client of google.longrunning.Operations, against servers that know less than ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2

from remote_apis.client.channel import open_channel
from remote_apis.client.operations import OperationsClient, unpack_operation
from remote_apis.errors import InvalidRequest, Unsupported
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_Context = grpc.aio.ServicerContext[Any, Any]
OPERATIONS = [operations_pb2.Operation(name=f"op-{n}", done=n % 3 == 0) for n in range(10)]


class PlainServer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """Three operations a page, whatever is asked for; `filters`: "refused" or "ignored"."""

    def __init__(self, filters: str) -> None:
        self.filters = filters
        self.names: list[str] = []

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: _Context
    ) -> operations_pb2.ListOperationsResponse:
        self.names.append(request.name)
        if request.filter and self.filters == "refused":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no filters")
        if request.name == "wrong":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such instance")
        start = int(request.page_token or "0")
        token = str(start + 3) if start + 3 < len(OPERATIONS) else ""
        return operations_pb2.ListOperationsResponse(
            operations=OPERATIONS[start : start + 3], next_page_token=token
        )


@asynccontextmanager
async def channel_to(servicer: PlainServer) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"grpc://127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


@pytest.mark.parametrize("filters", ["refused", "ignored"])
@pytest.mark.parametrize("done", [None, True, False])
async def test_lists_everywhere(filters: str, done: bool | None) -> None:
    servicer = PlainServer(filters)
    async with channel_to(servicer) as channel:
        client = OperationsClient(channel, instance="team")
        listed = [operation.name async for operation in client.list(done=done)]
    assert listed == [o.name for o in OPERATIONS if done is None or o.done == done]
    assert set(servicer.names) == {"team"}


@pytest.mark.parametrize("done", [None, True])
async def test_what_is_wrong_is_told(done: bool | None) -> None:
    async with channel_to(PlainServer("refused")) as channel:
        with pytest.raises(InvalidRequest, match="no such instance"):
            _ = [o async for o in OperationsClient(channel, instance="wrong").list(done=done)]
        with pytest.raises(Unsupported):
            await OperationsClient(channel).get("op-1")


def test_an_operation_of_another_kind_has_empty_fields() -> None:
    operation = operations_pb2.Operation(name="x", done=True)
    operation.metadata.Pack(re_pb.Digest(hash="not the metadata of an execution"))
    operation.response.Pack(re_pb.Digest())
    view = unpack_operation(operation)
    assert (view.name, view.done, view.response) == ("x", True, None)
    assert (view.metadata, view.error.code) == (re_pb.ExecuteOperationMetadata(), 0)
    assert view.execution == re_pb.ExecutedActionMetadata()


def test_an_operation_that_failed_without_a_response() -> None:
    operation = operations_pb2.Operation(name="x", done=True)
    operation.error.code = code_pb2.RESOURCE_EXHAUSTED
    operation.error.message = "full"
    view = unpack_operation(operation)
    assert (view.error.code, view.error.message) == (code_pb2.RESOURCE_EXHAUSTED, "full")


def test_worker_and_times_come_from_the_result_once_there_is_one() -> None:
    metadata = re_pb.ExecuteOperationMetadata()
    metadata.partial_execution_metadata.worker = "w1"
    metadata.partial_execution_metadata.auxiliary_metadata.add().Pack(re_pb.Digest())
    about = re_pb.RequestMetadata(target_id="//a")
    metadata.partial_execution_metadata.auxiliary_metadata.add().Pack(about)
    operation = operations_pb2.Operation(name="x")
    operation.metadata.Pack(metadata)
    assert unpack_operation(operation).execution.worker == "w1"
    assert unpack_operation(operation).about == about
    response = re_pb.ExecuteResponse()
    response.result.execution_metadata.worker = "w2"
    operation.response.Pack(response)
    assert unpack_operation(operation).execution.worker == "w2"
