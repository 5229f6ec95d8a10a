"""A real server in process with CAS, Execution and OperationQueue, real workers, and a client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.client.blobs import BlobSource
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel
from remote_apis.client.execution import ExecutionClient
from remote_apis.client.settings import ClientLimits
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from remote_apis.tree_builder import TreeBuilder
from server.actioncache.completeness import CompletenessCheckingActionCache
from server.actioncache.memory import MemoryActionCache
from server.blobstore.memory import MemoryBlobStore
from server.rpc.action_cache import ActionCacheServicer
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.cas import CasServicer
from server.rpc.execution import ExecutionServicer
from server.rpc.execution_results import ResultRecorder
from server.rpc.handlers import StatusHandlers
from server.rpc.operation_queue import OperationQueueServicer
from server.rpc.terms import Terms
from server.scheduler.driver import Scheduler
from server.scheduler.ports import Clock, MemoryRepository, SystemClock
from server.scheduler.settings import SchedulerSettings
from tests.worker.scripted_queue import ScriptedQueue
from worker.cached_file import parse_name
from worker.config import WorkerConfig, host_properties
from worker.run import Worker, open_worker

SHA256 = DigestFunction.SHA256
MESSAGES = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]


@dataclass(kw_only=True)
class Inputs:
    """An input root by path: bytes, or (bytes, executable), or a symbolic link's target."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    executables: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[str] = ()


@dataclass(kw_only=True)
class Client:
    """A client of a server, with what tests do all the time."""

    url: str
    channel: grpc.aio.Channel
    cas: CasClient
    execution: ExecutionClient
    action_cache: ActionCacheClient

    async def put(self, data: bytes, function: DigestFunction = SHA256) -> Digest:
        """Upload a blob."""
        digest = Digest.of(data, function)
        await self.cas.upload([BlobSource(digest, data)])
        return digest

    async def put_inputs(self, inputs: Inputs, function: DigestFunction = SHA256) -> Digest:
        """Upload an input root."""
        builder = TreeBuilder(function)
        blobs: dict[Digest, bytes] = {}
        for path in inputs.directories:
            builder.make_directory(path)
        for contents, executable in ((inputs.files, False), (inputs.executables, True)):
            for path, content in contents.items():
                digest = Digest.of(content, function)
                blobs[digest] = content
                builder.add_file(path, digest, executable=executable)
        for path, target in inputs.links.items():
            builder.add_symlink(path, target)
        root = builder.build(blobs)
        await self.cas.upload(BlobSource(digest, data) for digest, data in blobs.items())
        return root

    async def put_action(
        self,
        command: re_pb.Command,
        root: Digest,
        *,
        action: re_pb.Action | None = None,
    ) -> Digest:
        """Upload an action; `action` may bring a timeout and the like."""
        function = root.function
        message = re_pb.Action()
        if action is not None:
            message.CopyFrom(action)
        command_digest = await self.put(command.SerializeToString(deterministic=True), function)
        message.command_digest.CopyFrom(command_digest.to_message())
        message.input_root_digest.CopyFrom(root.to_message())
        return await self.put(message.SerializeToString(deterministic=True), function)

    async def run(
        self,
        script: str,
        *,
        inputs: Inputs | None = None,
        function: DigestFunction = SHA256,
        action: re_pb.Action | None = None,
        **command: Any,
    ) -> re_pb.ExecuteResponse:
        """Run a shell script as an action; `command` holds further fields of Command."""
        message = re_pb.Command(arguments=["/bin/sh", "-c", script], **command)
        return await self.run_command(message, inputs=inputs, function=function, action=action)

    async def run_command(
        self,
        command: re_pb.Command,
        *,
        inputs: Inputs | None = None,
        function: DigestFunction = SHA256,
        action: re_pb.Action | None = None,
    ) -> re_pb.ExecuteResponse:
        """Run a Command as an action."""
        root = await self.put_inputs(inputs or Inputs(), function)
        digest = await self.put_action(command, root, action=action)
        return await self.execute(digest)

    async def execute(self, digest: Digest) -> re_pb.ExecuteResponse:
        """Have an action run."""
        return await self.execution.execute(digest, timeout=60)

    async def read(self, message: re_pb.Digest, function: DigestFunction = SHA256) -> bytes:
        """A blob by its wire digest; empty when the digest is unset."""
        if not message.hash:
            return b""
        return await self.cas.read(Digest.from_message(message, function))

    async def stdout(self, response: re_pb.ExecuteResponse) -> str:
        """What the command wrote to stdout."""
        return (await self.read(response.result.stdout_digest)).decode()

    async def stderr(self, response: re_pb.ExecuteResponse) -> str:
        """What the command wrote to stderr."""
        return (await self.read(response.result.stderr_digest)).decode()


@dataclass(kw_only=True)
class World(Client):
    """A server in this process, its store, and a client of it."""

    store: MemoryBlobStore
    # Set where a test plays the scheduler.
    queue: ScriptedQueue | None = None

    async def execute(self, digest: Digest) -> re_pb.ExecuteResponse:
        """Have an action run, past the server's own checks where a test plays the scheduler."""
        if self.queue is not None:
            return await self.queue.execute(digest)
        return await super().execute(digest)


@asynccontextmanager
async def client_of(
    url: str, *, limits: ClientLimits | None = None, patience: float = 60.0
) -> AsyncIterator[Client]:
    """A client of a server that runs elsewhere."""
    async with open_channel(url) as channel:
        yield Client(
            url=url,
            channel=channel,
            cas=CasClient(channel, limits=limits),
            execution=ExecutionClient(channel, patience=patience),
            action_cache=ActionCacheClient(channel, limits=limits),
        )


@asynccontextmanager
async def open_world(
    queue: ScriptedQueue | None = None,
    *,
    settings: SchedulerSettings | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[World]:
    """A running server on a free loopback port, with nothing stored and no worker.

    With `queue` that takes the scheduler's place towards the workers.
    """
    store = MemoryBlobStore()
    terms = Terms()
    cache = CompletenessCheckingActionCache(MemoryActionCache(), store)
    clock = clock or SystemClock()
    scheduler = Scheduler(
        repository=MemoryRepository(),
        complete=ResultRecorder(store, cache),
        settings=settings,
        clock=clock,
    )
    methods = StatusHandlers()
    byte_stream = ByteStreamServicer(store=store, terms=terms)
    re_grpc.add_ContentAddressableStorageServicer_to_server(
        CasServicer(store=store, terms=terms), methods
    )
    bs_grpc.add_ByteStreamServicer_to_server(byte_stream, methods)
    re_grpc.add_ExecutionServicer_to_server(
        ExecutionServicer(scheduler=scheduler, store=store, cache=cache, terms=terms), methods
    )
    re_grpc.add_ActionCacheServicer_to_server(
        ActionCacheServicer(cache=cache, store=store, terms=terms), methods
    )
    rw_grpc.add_OperationQueueServicer_to_server(
        queue or OperationQueueServicer(scheduler=scheduler, wall_clock=clock.wall), methods
    )
    server = methods.server(MESSAGES)
    port = server.add_insecure_port("127.0.0.1:0")
    await scheduler.restore()
    running = asyncio.create_task(scheduler.run())
    await server.start()
    url = f"grpc://127.0.0.1:{port}"
    async with open_channel(url) as channel:
        yield World(
            url=url,
            store=store,
            channel=channel,
            cas=CasClient(channel),
            execution=ExecutionClient(channel),
            action_cache=ActionCacheClient(channel),
            queue=queue,
        )
    await scheduler.close()
    await server.stop(0)
    await byte_stream.close()
    await running


def worker_config(url: str, directory: Path, **changes: Any) -> WorkerConfig:
    """A worker of one slot, in the sandbox that is the default."""
    values: dict[str, Any] = {
        "name": "worker-1",
        "server": url,
        "directory": directory,
        "slots": 1,
        "properties": host_properties(),
    }
    return WorkerConfig(**(values | changes))


@asynccontextmanager
async def serving(config: WorkerConfig) -> AsyncIterator[Worker]:
    """A worker that serves while the block runs, and is then killed as by a lost machine."""
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(open_worker(config))
        task = asyncio.create_task(worker.serve())
        try:
            yield worker
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def half_made(cache: Path) -> list[Path]:
    """What is in a worker's blob cache and no whole file of it: fetches that failed leave nothing.

    `cache` is the cache's directory.
    """
    found = []
    for path in (cache / "files").rglob("*"):
        file = parse_name(path.name)
        if path.is_file() and (file is None or not file.is_intact(path.lstat())):
            found.append(path)
    return found
