"""Running actions remotely, and following them through broken streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import grpc
import grpc.aio
from google.longrunning import operations_pb2

from remote_apis.client.retry import delays
from remote_apis.client.rpc_errors import RetryLater, error_of_status, rpc_errors
from remote_apis.client.service import ServiceClient
from remote_apis.client.settings import Metadata, RetryPolicy
from remote_apis.digest import Digest
from remote_apis.errors import NotFound, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc

OnProgress = Callable[[re_pb.ExecuteOperationMetadata], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteOptions:
    """What to ask for beside the action itself (REAPI 2.12 ExecuteRequest)."""

    skip_cache_lookup: bool = False
    priority: int = 0
    inline_stdout: bool = False
    inline_stderr: bool = False
    inline_output_files: Sequence[str] = ()


class ExecutionClient(ServiceClient):
    """Executions of one instance.

    `patience` is how many seconds a server may be out of reach before it is given up; the waits
    between attempts follow `retry`, whose number of attempts does not matter here.
    """

    _stub_class = re_grpc.ExecutionStub

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        instance: str = "",
        patience: float = 60.0,
        retry: RetryPolicy | None = None,
        metadata: Metadata = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(channel, instance=instance, metadata=metadata)
        self._patience = patience
        self._retry = retry or RetryPolicy()
        self._clock = clock

    async def execute(
        self,
        action_digest: Digest,
        options: ExecuteOptions | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
    ) -> re_pb.ExecuteResponse:
        """Run the action, or get its cached result; how the run went is in `response.status`.

        `on_progress` is awaited with the metadata of each Operation that comes, the last included.
        A stream that breaks is taken up by WaitExecution, or by a new Execute when the server no
        longer knows the operation. Raises MissingBlobs when the server wants inputs first,
        Unavailable when it stays out of reach for `patience`, TimeoutError after `timeout`
        seconds in all. Cancelling the task ends the stream and nothing else.
        """
        request = self._request(action_digest, options or ExecuteOptions())
        async with asyncio.timeout(timeout):
            return await self._follow(request, on_progress)

    async def wait(
        self,
        name: str,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
    ) -> re_pb.ExecuteResponse:
        """The outcome of an operation under way. Raises NotFound when the server lost it."""
        async with asyncio.timeout(timeout):
            return await self._follow(None, on_progress, name=name)

    async def _follow(
        self,
        request: re_pb.ExecuteRequest | None,
        on_progress: OnProgress | None,
        *,
        name: str = "",
    ) -> re_pb.ExecuteResponse:
        waits = delays(self._retry)
        last_seen = self._clock()
        while True:
            pause = next(waits)
            try:
                async with aclosing(self._operations(request, name)) as operations:
                    async for operation in operations:
                        name, last_seen = operation.name, self._clock()
                        waits = delays(self._retry)
                        response = await _take(operation, on_progress)
                        if response is not None:
                            return response
                raise Unavailable(f"following {name}: the stream ended before the operation did")
            except NotFound:
                if request is None or not name:
                    raise
                name = ""  # lost with the server's memory: ask again, at once
                continue
            except RetryLater as error:
                pause = error.delay
                self._check_patience(last_seen, error)
            except Unavailable as error:
                self._check_patience(last_seen, error)
            await asyncio.sleep(pause)

    def _check_patience(self, last_seen: float, error: Unavailable) -> None:
        if self._clock() - last_seen >= self._patience:
            raise error

    async def _operations(
        self, request: re_pb.ExecuteRequest | None, name: str
    ) -> AsyncGenerator[operations_pb2.Operation, None]:
        with rpc_errors("executing"):
            if name or request is None:
                call = self._stub.WaitExecution(
                    re_pb.WaitExecutionRequest(name=name), metadata=self._metadata
                )
            else:
                call = self._stub.Execute(request, metadata=self._metadata)
            try:
                async for operation in call:
                    yield operation
            finally:
                call.cancel()

    def _request(self, action_digest: Digest, options: ExecuteOptions) -> re_pb.ExecuteRequest:
        request = re_pb.ExecuteRequest(
            instance_name=self._instance,
            skip_cache_lookup=options.skip_cache_lookup,
            action_digest=action_digest.to_message(),
            digest_function=action_digest.function.name,
            inline_stdout=options.inline_stdout,
            inline_stderr=options.inline_stderr,
            inline_output_files=options.inline_output_files,
        )
        if options.priority:
            request.execution_policy.priority = options.priority
        return request


async def _take(
    operation: operations_pb2.Operation, on_progress: OnProgress | None
) -> re_pb.ExecuteResponse | None:
    """Report the progress; the response when the operation is done."""
    if on_progress is not None:
        progress = re_pb.ExecuteOperationMetadata()
        if operation.metadata.Unpack(progress):
            await on_progress(progress)
    if not operation.done:
        return None
    if operation.HasField("error"):
        raise error_of_status(operation.error, f"executing {operation.name}")
    response = re_pb.ExecuteResponse()
    if not operation.response.Unpack(response):
        raise Unavailable(f"executing {operation.name}: the server sent no ExecuteResponse")
    return response
