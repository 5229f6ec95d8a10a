"""The one place where the server's parts are put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from grpc_health.v1 import health, health_pb2

from remote_apis.errors import Unavailable
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
from server.blobstore.vouching import VouchingBlobStore
from server.cli.listening import bind
from server.cli.services import SERVICES, Parts, make_server, open_logs
from server.db.action_results import SqlActionCache
from server.db.assets import SqlAssetIndex
from server.db.drained_workers import SqlDrainedWorkers
from server.db.engine import Database
from server.db.operations import SqlOperationRepository
from server.rpc.execution_results import ResultRecorder
from server.rpc.input_keeper import InputKeeper
from server.scheduler.driver import Scheduler

_BLOBS = "blobs"
_WORKER_POLL = 0.02


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
        store, vouching = await _blob_stores(settings, stack)
        database = await Database.open(settings.data_dir / "server.sqlite")
        stack.push_async_callback(database.close)
        cache = _action_cache(database, vouching, stack)
        scheduler = await _scheduler(database, ResultRecorder(vouching, cache))
        await stack.enter_async_context(_running(scheduler, InputKeeper(scheduler, vouching)))
        checker = health.aio.HealthServicer()
        parts = Parts(
            blob_directory=os.path.abspath(settings.data_dir / _BLOBS),
            store=store,
            vouching=vouching,
            cache=cache,
            scheduler=scheduler,
            logs=open_logs(settings.data_dir, store, stack),
            assets=await _assets(settings, database, store, stack),
            health=checker,
        )
        server = make_server(parts, stack)
        url = bind(server, settings.listen)
        await server.start()
        stack.push_async_callback(server.stop, 1.0)
        # first: it sends workers and clients away, who would be waited for otherwise
        stack.push_async_callback(scheduler.close)
        for service in ("", *SERVICES):
            await checker.set(service, health_pb2.HealthCheckResponse.SERVING)
        yield RunningServer(url=url, scheduler=scheduler, health=checker)


async def _scheduler(database: Database, recorder: ResultRecorder) -> Scheduler:
    """The scheduler, with what was under way before a restart."""
    operations = SqlOperationRepository(database)
    await operations.prepare()
    scheduler = Scheduler(
        repository=operations, complete=recorder, drained=SqlDrainedWorkers(database)
    )
    restored = await scheduler.restore()
    if restored:
        logging.info("took up %d operations from before the restart", restored)
    return scheduler


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


async def _blob_stores(
    settings: ServerSettings, stack: contextlib.AsyncExitStack
) -> tuple[BlobStore, BlobStore]:
    """The store, and the view of it whose `find_missing` keeps what it finds from eviction."""
    disk = await DiskBlobStore.open(settings.data_dir / _BLOBS)
    stack.push_async_callback(disk.close)
    if settings.max_size is None:
        return disk, disk
    store = EvictingBlobStore(disk, max_bytes=settings.max_size)
    stack.push_async_callback(store.close)
    store.start_if_needed()
    return store, VouchingBlobStore(store)


def _action_cache(
    database: Database, store: BlobStore, stack: contextlib.AsyncExitStack
) -> ActionCache:
    results = SqlActionCache(database)
    stack.push_async_callback(results.save_uses)
    stored = ReadCachingActionCache(near=MemoryActionCache(), far=results)
    return CompletenessCheckingActionCache(stored, store)


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
