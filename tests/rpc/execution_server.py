"""A server with the execution services alone, in process, and a scripted worker for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2_grpc as w_grpc
from server.actioncache.completeness import CompletenessCheckingActionCache
from server.actioncache.memory import MemoryActionCache
from server.blobstore.interface import write_all
from server.blobstore.memory import MemoryBlobStore
from server.logstream.live import LiveOutputs
from server.rpc.execution import ExecutionServicer
from server.rpc.execution_checks import ExecutionLimits
from server.rpc.execution_results import ResultRecorder
from server.rpc.handlers import StatusHandlers
from server.rpc.operation_queue import OperationQueueServicer
from server.rpc.operations import OperationsServicer
from server.rpc.terms import Terms
from server.rpc.workers import WorkersServicer
from server.scheduler.driver import Scheduler
from server.scheduler.ports import (
    Clock,
    DrainedWorkers,
    MemoryRepository,
    OperationRepository,
    SystemClock,
)
from server.scheduler.settings import SchedulerSettings

Platform = Sequence[tuple[str, str]]
SHA256 = DigestFunction.SHA256


@dataclass(kw_only=True)
class ExecutionServer:
    """Everything that a test may want to look at."""

    store: MemoryBlobStore
    cache: CompletenessCheckingActionCache
    scheduler: Scheduler
    execution: re_grpc.ExecutionStub
    operations: operations_pb2_grpc.OperationsStub
    queue: rw_grpc.OperationQueueStub
    channel: grpc.aio.Channel

    async def put(self, data: bytes, function: DigestFunction = SHA256) -> Digest:
        """Store a blob."""
        digest = Digest.of(data, function)
        await write_all(self.store, digest, data)
        return digest

    async def put_action(
        self,
        *,
        command: re_pb.Command | None = None,
        root: re_pb.Directory | None = None,
        platform: Platform = (),
        function: DigestFunction = SHA256,
        action: re_pb.Action | None = None,
    ) -> Digest:
        """Store an action with its command and an input root without subdirectories."""
        command = command or re_pb.Command(arguments=["true"])
        action = action or re_pb.Action()
        command_digest = await self.put(command.SerializeToString(deterministic=True), function)
        root = root or re_pb.Directory()
        root_digest = await self.put(root.SerializeToString(deterministic=True), function)
        action.command_digest.CopyFrom(command_digest.to_message())
        action.input_root_digest.CopyFrom(root_digest.to_message())
        for name, value in platform:
            action.platform.properties.add(name=name, value=value)
        return await self.put(action.SerializeToString(deterministic=True), function)

    def execute(self, digest: Digest, **options: object) -> Any:
        """Call Execute; returns the call, to be iterated."""
        request = re_pb.ExecuteRequest(action_digest=digest.to_message(), **options)  # type: ignore[arg-type]
        request.digest_function = digest.function.number  # type: ignore[assignment]
        return self.execution.Execute(request)

    async def outcome(self, digest: Digest, **options: object) -> re_pb.ExecuteResponse:
        """Call Execute and wait for the response."""
        return response_of([operation async for operation in self.execute(digest, **options)][-1])


def response_of(operation: operations_pb2.Operation) -> re_pb.ExecuteResponse:
    """The response of a finished operation."""
    assert operation.done
    assert not operation.HasField("error")
    response = re_pb.ExecuteResponse()
    assert operation.response.Unpack(response)
    return response


def metadata_of(operation: operations_pb2.Operation) -> re_pb.ExecuteOperationMetadata:
    """The metadata of an operation."""
    metadata = re_pb.ExecuteOperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


@asynccontextmanager
async def execution_server(
    *,
    settings: SchedulerSettings | None = None,
    limits: ExecutionLimits | None = None,
    repository: OperationRepository | None = None,
    store: MemoryBlobStore | None = None,
    live: LiveOutputs | None = None,
    drained: DrainedWorkers | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[ExecutionServer]:
    """A running server on a free loopback port."""
    store = store or MemoryBlobStore()
    cache = CompletenessCheckingActionCache(MemoryActionCache(), store)
    scheduler = Scheduler(
        repository=repository or MemoryRepository(),
        complete=ResultRecorder(store, cache),
        drained=drained,
        settings=settings,
        clock=clock,
    )
    methods = StatusHandlers()
    execution = ExecutionServicer(
        scheduler=scheduler, store=store, cache=cache, terms=Terms(), limits=limits, live=live
    )
    re_grpc.add_ExecutionServicer_to_server(execution, methods)
    operations_pb2_grpc.add_OperationsServicer_to_server(
        OperationsServicer(scheduler=scheduler, live=live), methods
    )
    rw_grpc.add_OperationQueueServicer_to_server(
        OperationQueueServicer(
            scheduler=scheduler, live=live, wall_clock=(clock or SystemClock()).wall
        ),
        methods,
    )
    w_grpc.add_WorkersServicer_to_server(WorkersServicer(scheduler=scheduler), methods)
    server = methods.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await scheduler.restore()
    running = asyncio.create_task(scheduler.run())
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ExecutionServer(
            store=store,
            cache=cache,
            scheduler=scheduler,
            execution=re_grpc.ExecutionStub(channel),
            operations=operations_pb2_grpc.OperationsStub(channel),
            queue=rw_grpc.OperationQueueStub(channel),
            channel=channel,
        )
        await scheduler.close()
        await server.stop(0)
    await running


class ScriptedWorker:
    """A worker that does what the test says, over the wire, in the manner of Buildbarn's."""

    def __init__(
        self,
        server: ExecutionServer,
        *,
        worker_id: Mapping[str, str] | None = None,
        platform: Platform = (),
        prefix: str = "",
    ) -> None:
        self._server = server
        self._request = rw_pb.SynchronizeRequest(
            worker_id=worker_id or {"worker": "w1"}, instance_name_prefix=prefix
        )
        for name, value in platform:
            self._request.platform.properties.add(name=name, value=value)

    async def idle(self, *, prefers_idle: bool = False) -> rw_pb.SynchronizeResponse:
        """Report idleness."""
        self._request.current_state.Clear()
        self._request.current_state.idle.SetInParent()
        return await self._synchronize(prefers_idle=prefers_idle)

    async def take(self) -> rw_pb.DesiredState.Executing:
        """Report idleness until there is work."""
        while True:
            response = await self.idle()
            if response.desired_state.WhichOneof("worker_state") == "executing":
                return response.desired_state.executing

    async def running(self, work: rw_pb.DesiredState.Executing) -> rw_pb.SynchronizeResponse:
        """Report that the command runs."""
        self._executing(work).running.SetInParent()
        return await self._synchronize()

    async def completed(
        self,
        work: rw_pb.DesiredState.Executing,
        response: re_pb.ExecuteResponse | None = None,
        *,
        prefers_idle: bool = True,
    ) -> rw_pb.SynchronizeResponse:
        """Report a response, by default one of success without outputs."""
        response = response or re_pb.ExecuteResponse(result=re_pb.ActionResult())
        metadata = response.result.execution_metadata
        metadata.queued_timestamp.CopyFrom(work.queued_timestamp)
        self._executing(work).completed.CopyFrom(response)
        return await self._synchronize(prefers_idle=prefers_idle)

    async def serve(self, response: re_pb.ExecuteResponse | None = None, times: int = 1) -> None:
        """Take work and complete it."""
        for _ in range(times):
            work = await self.take()
            await self.running(work)
            await self.completed(work, response)

    def _executing(self, work: rw_pb.DesiredState.Executing) -> rw_pb.CurrentState.Executing:
        self._request.current_state.Clear()
        executing = self._request.current_state.executing
        executing.action_digest.CopyFrom(work.action_digest)
        return executing

    async def _synchronize(self, *, prefers_idle: bool = False) -> rw_pb.SynchronizeResponse:
        self._request.prefer_being_idle = prefers_idle
        response: rw_pb.SynchronizeResponse = await self._server.queue.Synchronize(self._request)
        return response
