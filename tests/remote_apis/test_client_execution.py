"""Following executions through broken streams, and the ActionCache, against scripted servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.client.capabilities import get_capabilities
from remote_apis.client.channel import open_channel
from remote_apis.client.execution import ExecuteOptions, ExecutionClient
from remote_apis.client.settings import ClientLimits, RetryPolicy
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest, NotFound, PermissionDenied, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc

ACTION = Digest.of(b"action", DigestFunction.BLAKE3)
FAST = RetryPolicy(attempts=3, first_delay=0.001, max_delay=0.02)
QUEUED, EXECUTING, COMPLETED = 2, 3, 4
STAGES = {QUEUED: "QUEUED", EXECUTING: "EXECUTING", COMPLETED: "COMPLETED"}
_Context = grpc.aio.ServicerContext[Any, Any]
Step = int | grpc.StatusCode | re_pb.ExecuteResponse


class ScriptedServer(
    re_grpc.ExecutionServicer, re_grpc.ActionCacheServicer, re_grpc.CapabilitiesServicer
):
    """Each Execute or WaitExecution plays the next list of steps: stages, errors, the response."""

    def __init__(self, *scripts: list[Step]) -> None:
        self.scripts = list(scripts)
        self.calls: list[str] = []
        self.requests: list[Any] = []
        self.result: re_pb.ActionResult | None = None
        self.failures = 0

    async def Execute(
        self, request: re_pb.ExecuteRequest, context: _Context
    ) -> AsyncIterator[operations_pb2.Operation]:
        self.calls.append("execute")
        self.requests.append(request)
        async for operation in self._play(context):
            yield operation

    async def WaitExecution(
        self, request: re_pb.WaitExecutionRequest, context: _Context
    ) -> AsyncIterator[operations_pb2.Operation]:
        self.calls.append(f"wait {request.name}")
        async for operation in self._play(context):
            yield operation

    async def _play(self, context: _Context) -> AsyncIterator[operations_pb2.Operation]:
        for step in self.scripts.pop(0):
            operation = operations_pb2.Operation(name="op-1")
            if isinstance(step, grpc.StatusCode):
                await context.abort(step, "scripted")
            elif isinstance(step, int):
                operation.metadata.Pack(re_pb.ExecuteOperationMetadata(stage=STAGES[step]))
            else:
                operation.done = True
                operation.metadata.Pack(re_pb.ExecuteOperationMetadata(stage=STAGES[COMPLETED]))
                operation.response.Pack(step)
            yield operation

    async def GetActionResult(
        self, request: re_pb.GetActionResultRequest, context: _Context
    ) -> re_pb.ActionResult:
        self.requests.append(request)
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")
        if self.result is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        assert self.result is not None
        return self.result

    async def UpdateActionResult(
        self, request: re_pb.UpdateActionResultRequest, context: _Context
    ) -> re_pb.ActionResult:
        self.requests.append(request)
        if self.failures:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        self.result = request.action_result
        return self.result

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: _Context
    ) -> re_pb.ServerCapabilities:
        return re_pb.ServerCapabilities(
            cache_capabilities=re_pb.CacheCapabilities(max_batch_total_size_bytes=7)
        )


@asynccontextmanager
async def channel_to(servicer: ScriptedServer) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    re_grpc.add_ExecutionServicer_to_server(servicer, server)
    re_grpc.add_ActionCacheServicer_to_server(servicer, server)
    re_grpc.add_CapabilitiesServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"grpc://127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def outcome_of(
    servicer: ScriptedServer, clock: Callable[[], float] | None = None, **options: Any
) -> tuple[re_pb.ExecuteResponse, list[int]]:
    """Execute with the servicer's scripts; the response and the stages that were told."""
    stages = []

    async def on_progress(metadata: re_pb.ExecuteOperationMetadata) -> None:
        stages.append(int(metadata.stage))

    async with channel_to(servicer) as channel:
        client = ExecutionClient(
            channel, instance="a/b", retry=FAST, patience=5, clock=clock or time.monotonic
        )
        response = await client.execute(
            ACTION, ExecuteOptions(**options), on_progress=on_progress, timeout=30
        )
    return response, stages


DONE = re_pb.ExecuteResponse(result=re_pb.ActionResult(exit_code=3))


async def test_the_request_says_what_was_asked_for() -> None:
    servicer = ScriptedServer([QUEUED, EXECUTING, DONE])
    response, stages = await outcome_of(
        servicer,
        skip_cache_lookup=True,
        priority=-4,
        inline_stdout=True,
        inline_output_files=("a", "b"),
    )
    assert response == DONE
    assert stages == [QUEUED, EXECUTING, COMPLETED]
    (request,) = servicer.requests
    assert request.instance_name == "a/b"
    assert request.action_digest == ACTION.to_message()
    assert request.digest_function == re_pb.DigestFunction.BLAKE3
    assert request.skip_cache_lookup
    assert request.execution_policy.priority == -4
    assert request.inline_stdout
    assert not request.inline_stderr
    assert list(request.inline_output_files) == ["a", "b"]


async def test_a_status_inside_the_response_is_not_an_error_of_the_call() -> None:
    failed = re_pb.ExecuteResponse()
    failed.status.code = code_pb2.DEADLINE_EXCEEDED
    response, _ = await outcome_of(ScriptedServer([failed]))
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED


@pytest.mark.row(78)
async def test_a_broken_stream_is_taken_up_again() -> None:
    servicer = ScriptedServer(
        [QUEUED, grpc.StatusCode.UNAVAILABLE],
        [grpc.StatusCode.UNAVAILABLE],
        [EXECUTING],  # ends before the operation does
        [EXECUTING, DONE],
    )
    response, stages = await outcome_of(servicer)
    assert response == DONE
    assert servicer.calls == ["execute", *["wait op-1"] * 3]
    assert stages == [QUEUED, EXECUTING, EXECUTING, COMPLETED]


async def test_an_operation_that_was_lost_is_asked_for_anew() -> None:
    servicer = ScriptedServer(
        [QUEUED, grpc.StatusCode.UNAVAILABLE], [grpc.StatusCode.NOT_FOUND], [DONE]
    )
    response, _ = await outcome_of(servicer)
    assert response == DONE
    assert servicer.calls == ["execute", "wait op-1", "execute"]


async def test_an_execute_that_never_began_is_repeated() -> None:
    servicer = ScriptedServer([grpc.StatusCode.UNAVAILABLE], [DONE])
    response, _ = await outcome_of(servicer)
    assert response == DONE
    assert servicer.calls == ["execute", "execute"]


async def test_patience_ends() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 2
        return now[0]

    scripts: list[list[Step]] = [[grpc.StatusCode.UNAVAILABLE] for _ in range(20)]
    servicer = ScriptedServer(*scripts)
    with pytest.raises(Unavailable):
        await outcome_of(servicer, clock)
    assert len(servicer.calls) < 5


async def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    servicer = ScriptedServer([grpc.StatusCode.INVALID_ARGUMENT])
    with pytest.raises(InvalidRequest):
        await outcome_of(servicer)
    assert servicer.calls == ["execute"]
    with pytest.raises(NotFound):
        await outcome_of(ScriptedServer([grpc.StatusCode.NOT_FOUND]))


async def test_an_operation_can_be_waited_for_by_name() -> None:
    async with channel_to(ScriptedServer([EXECUTING, DONE])) as channel:
        assert await ExecutionClient(channel).wait("op-1", timeout=20) == DONE
    async with channel_to(ScriptedServer([grpc.StatusCode.NOT_FOUND])) as channel:
        with pytest.raises(NotFound):
            await ExecutionClient(channel).wait("op-1", timeout=20)


async def test_a_timeout_of_the_caller() -> None:
    class Slow(ScriptedServer):
        async def _play(self, context: _Context) -> AsyncIterator[operations_pb2.Operation]:
            yield operations_pb2.Operation(name="op-1")
            await asyncio.sleep(60)

    async with channel_to(Slow()) as channel:
        with pytest.raises(TimeoutError):
            await ExecutionClient(channel).execute(ACTION, timeout=0.2)


@pytest.mark.row(63)
async def test_the_action_cache() -> None:
    servicer = ScriptedServer()
    async with channel_to(servicer) as channel:
        cache = ActionCacheClient(channel, instance="a/b", limits=ClientLimits(retry=FAST))
        assert await cache.get(ACTION) is None
        stored = await cache.update(ACTION, DONE.result)
        assert stored == DONE.result
        servicer.failures = 2
        assert await cache.get(ACTION, inline_stderr=True) == DONE.result
        assert servicer.requests[-1].inline_stderr
        assert servicer.requests[-1].instance_name == "a/b"
        assert servicer.requests[-1].digest_function == re_pb.DigestFunction.BLAKE3
        servicer.failures = 3
        with pytest.raises(Unavailable):
            await cache.get(ACTION)
        servicer.failures = 1
        with pytest.raises(PermissionDenied):
            await cache.update(ACTION, DONE.result)


async def test_capabilities() -> None:
    async with channel_to(ScriptedServer()) as channel:
        capabilities = await get_capabilities(channel)
        assert capabilities.cache_capabilities.max_batch_total_size_bytes == 7
    async with open_channel("grpc://127.0.0.1:1") as channel:
        with pytest.raises(Unavailable):
            await get_capabilities(channel, timeout=5)
