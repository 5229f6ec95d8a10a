"""The one place where the server's parts are put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from remote_apis.chunking import FastCdc2020, RepMaxCdc
from remote_apis.errors import Unavailable
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2_grpc as ra_grpc
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2_grpc as ls_grpc
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.actioncache.completeness import CompletenessCheckingActionCache
from server.actioncache.interface import ActionCache
from server.actioncache.memory import MemoryActionCache
from server.actioncache.read_caching import ReadCachingActionCache
from server.asset.origins import Origins
from server.asset.service import AssetService
from server.asset.settings import AssetSettings
from server.blobstore.disk import DiskBlobStore
from server.blobstore.evicting import EvictingBlobStore
from server.blobstore.interface import BlobStore
from server.cli.listening import OPTIONS, bind
from server.db.action_results import SqlActionCache
from server.db.assets import SqlAssetIndex
from server.db.engine import Database
from server.db.operations import SqlOperationRepository
from server.logstream.live import LiveOutputs
from server.logstream.streams import LogStreams
from server.rpc.action_cache import ActionCacheServicer
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.capabilities import CapabilitiesServicer, ExecutionOffer, Offer
from server.rpc.cas import CasServicer
from server.rpc.execution import ExecutionServicer
from server.rpc.execution_results import ResultRecorder
from server.rpc.input_keeper import InputKeeper
from server.rpc.interceptors import StatusInterceptor
from server.rpc.log_stream import LogByteStreams, LogStreamServicer
from server.rpc.operation_queue import OperationQueueServicer
from server.rpc.operations import OperationsServicer
from server.rpc.options import SERVER_OPTIONS
from server.rpc.remote_asset import FetchServicer, PushServicer
from server.rpc.terms import Terms
from server.scheduler.driver import Scheduler

_WORKER_POLL = 0.02
_SERVICES = (
    "build.bazel.remote.asset.v1.Fetch",
    "build.bazel.remote.asset.v1.Push",
    "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "build.bazel.remote.execution.v2.Execution",
    "build.bazel.remote.logstream.v1.LogStreamService",
    "buildbarn.remoteworker.OperationQueue",
    "google.bytestream.ByteStream",
    "google.longrunning.Operations",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What `distbuild serve` was told. `max_size` in bytes, None for no limit.

    `asset_fetch`: "off", "public" or "any", as `--asset-fetch` describes.
    """

    listen: str
    data_dir: Path
    max_size: int | None
    asset_fetch: str = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers at `url`."""

    url: str
    grpc_server: grpc.aio.Server
    scheduler: Scheduler
    health: health.aio.HealthServicer

    async def wait_for_workers(self, count: int, seconds: float) -> None:
        """Return when so many workers are connected. Raises Unavailable after the time."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.scheduler.workers()) < count:  # noqa: ASYNC110 - once, at the start
                    await asyncio.sleep(_WORKER_POLL)
        except TimeoutError:
            raise Unavailable(f"the workers did not start in {seconds:.0f} s") from None

    async def drain(self, seconds: float) -> None:
        """Take no new operations and wait for the accepted ones, at most so long."""
        await self.health.enter_graceful_shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.scheduler.drain(), seconds)


@contextlib.asynccontextmanager
async def serving(settings: ServerSettings) -> AsyncIterator[RunningServer]:
    """Open the stores below `data_dir` and serve until the block ends.

    Raises FailedPrecondition when the address is taken, Unavailable when another server has the
    directory, OSError when it cannot be written.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        store = await _blob_store(settings, stack)
        database = await Database.open(settings.data_dir / "server.sqlite")
        stack.push_async_callback(database.close)
        cache = _action_cache(database, store, stack)
        operations = SqlOperationRepository(database)
        await operations.prepare()
        scheduler = Scheduler(repository=operations, complete=ResultRecorder(store, cache))
        restored = await scheduler.restore()
        if restored:
            logging.info("took up %d operations from before the restart", restored)
        await stack.enter_async_context(_running(scheduler, InputKeeper(scheduler, store)))
        checker = health.aio.HealthServicer()
        logs = _logs(settings.data_dir, store, stack)
        server = _grpc_server(store, cache, scheduler, logs, checker, stack)
        assets = await _assets(settings, database, store, stack)
        ra_grpc.add_FetchServicer_to_server(FetchServicer(assets=assets, terms=Terms()), server)
        ra_grpc.add_PushServicer_to_server(PushServicer(assets=assets, terms=Terms()), server)
        url = bind(server, settings.listen)
        await server.start()
        stack.push_async_callback(server.stop, 1.0)
        # first: it sends workers and clients away, who would be waited for otherwise
        stack.push_async_callback(scheduler.close)
        for service in ("", *_SERVICES):
            await checker.set(service, health_pb2.HealthCheckResponse.SERVING)
        yield RunningServer(url=url, grpc_server=server, scheduler=scheduler, health=checker)


@contextlib.asynccontextmanager
async def _running(scheduler: Scheduler, inputs: InputKeeper) -> AsyncIterator[None]:
    """Keep the scheduler's journal and the inputs of its operations until the block ends."""
    journal = asyncio.create_task(scheduler.run())
    keeper = asyncio.create_task(inputs.run())
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])
        await scheduler.close()
        await journal


async def _blob_store(settings: ServerSettings, stack: contextlib.AsyncExitStack) -> BlobStore:
    disk = await DiskBlobStore.open(settings.data_dir / "blobs")
    stack.push_async_callback(disk.close)
    if settings.max_size is None:
        return disk
    store = EvictingBlobStore(disk, max_bytes=settings.max_size)
    stack.push_async_callback(store.close)
    store.start_if_needed()
    return store


def _action_cache(
    database: Database, store: BlobStore, stack: contextlib.AsyncExitStack
) -> ActionCache:
    results = SqlActionCache(database)
    stack.push_async_callback(results.save_uses)
    stored = ReadCachingActionCache(near=MemoryActionCache(), far=results)
    return CompletenessCheckingActionCache(stored, store)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logs:
    """Streams that clients make, and those of what actions print.

    They are apart, so that the many actions of a build do not push out the others.
    """

    made: LogStreams
    printed: LogStreams
    live: LiveOutputs


def _logs(data_dir: Path, store: BlobStore, stack: contextlib.AsyncExitStack) -> _Logs:
    made = LogStreams(data_dir / "logs")
    stack.callback(made.close)
    printed = LogStreams(data_dir / "live", max_streams=4000, keep_seconds=600.0)
    stack.callback(printed.close)
    return _Logs(made=made, printed=printed, live=LiveOutputs(printed, store))


async def _assets(
    settings: ServerSettings,
    database: Database,
    store: BlobStore,
    stack: contextlib.AsyncExitStack,
) -> AssetService:
    index = SqlAssetIndex(database)
    await index.prepare()
    limits = AssetSettings(allow_private_addresses=settings.asset_fetch == "any")
    origins = None
    if settings.asset_fetch != "off":
        origins = Origins(store=store, directory=settings.data_dir / "assets", settings=limits)
        stack.callback(origins.close)
    return AssetService(index=index, store=store, origins=origins, settings=limits)


def _grpc_server(
    store: BlobStore,
    cache: ActionCache,
    scheduler: Scheduler,
    logs: _Logs,
    checker: health.aio.HealthServicer,
    stack: contextlib.AsyncExitStack,
) -> grpc.aio.Server:
    terms = Terms()
    server = grpc.aio.server(
        interceptors=[StatusInterceptor()], options=(*SERVER_OPTIONS, *OPTIONS)
    )
    streams = ByteStreamServicer(
        store=store, terms=terms, others=[LogByteStreams(logs.printed, logs.made)]
    )
    stack.push_async_callback(streams.close)
    offer = Offer(execution=ExecutionOffer(node_properties=("mtime", "unix_mode")))
    fast_cdc, rep_max_cdc = FastCdc2020(), RepMaxCdc()
    re_grpc.add_ContentAddressableStorageServicer_to_server(
        CasServicer(store=store, terms=terms, chunkers=(fast_cdc, rep_max_cdc)), server
    )
    bs_grpc.add_ByteStreamServicer_to_server(streams, server)
    re_grpc.add_ActionCacheServicer_to_server(
        ActionCacheServicer(cache=cache, store=store, terms=terms), server
    )
    re_grpc.add_CapabilitiesServicer_to_server(
        CapabilitiesServicer(
            terms=terms,
            offer_of=lambda instance: offer,
            fast_cdc=fast_cdc,
            rep_max_cdc=rep_max_cdc,
        ),
        server,
    )
    re_grpc.add_ExecutionServicer_to_server(
        ExecutionServicer(
            scheduler=scheduler, store=store, cache=cache, terms=terms, live=logs.live
        ),
        server,
    )
    operations_pb2_grpc.add_OperationsServicer_to_server(
        OperationsServicer(scheduler=scheduler, live=logs.live), server
    )
    rw_grpc.add_OperationQueueServicer_to_server(
        OperationQueueServicer(scheduler=scheduler, live=logs.live), server
    )
    ls_grpc.add_LogStreamServiceServicer_to_server(LogStreamServicer(streams=logs.made), server)
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    listed = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(listed, server)
    return server
