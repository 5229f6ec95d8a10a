"""A worker process: slots, cache and sandbox put together, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel, parse_address
from remote_apis.client.settings import ClientLimits, RetryPolicy
from worker.action import ActionRunner, WorkerParts
from worker.action_reader import ActionReader
from worker.assignment import Assignment
from worker.blob_cache import BlobCache
from worker.cgroup import find_control_groups
from worker.config import ResourceLimits, WorkerConfig, platform_message
from worker.directories import DirectoryReader
from worker.health import HealthServer
from worker.input_root import InputRoots
from worker.lease import Slot
from worker.lease_settings import LeaseSettings
from worker.live_output import live_output
from worker.own_directory import own_directory
from worker.queue_client import QueueClient
from worker.sandbox.containers import open_containers
from worker.sandbox.select import open_sandbox
from worker.tree_pool import TreePool

_LOG = logging.getLogger(__name__)
# Long enough for a server to start again while an action's results wait to be uploaded.
_RETRY = RetryPolicy(attempts=60, first_delay=0.1, max_delay=5.0)


class Worker:
    """A worker that is set up; made by `open_worker`."""

    def __init__(self, config: WorkerConfig, parts: WorkerParts, queue: QueueClient) -> None:
        self._parts = parts
        platform = platform_message(parts.containers.offers())
        self.slots = [
            Slot(
                LeaseSettings(
                    worker=config.name_of(number),
                    slot=number,
                    worker_id=config.worker_id_of(number),
                    instance_prefix=config.instance_prefix,
                    platform=platform,
                ),
                queue,
                ActionRunner(parts, number),
            )
            for number in range(config.slots)
        ]

    @property
    def cache(self) -> BlobCache:
        """The blob cache, for its figures."""
        return self._parts.inputs.cache

    @property
    def pool(self) -> TreePool:
        """The kept input directories, for their figures."""
        return self._parts.inputs.pool

    async def serve(self) -> None:
        """Run actions until `drain`; when cancelled, kill them."""
        async with asyncio.TaskGroup() as group:
            for slot in self.slots:
                group.create_task(slot.run())

    def drain(self) -> None:
        """Have `serve` return when the running actions are finished and reported."""
        for slot in self.slots:
            slot.drain()


@asynccontextmanager
async def open_worker(config: WorkerConfig) -> AsyncIterator[Worker]:
    """Everything a worker needs; leaves no process, file or connection behind.

    The server need not be there yet. Raises InvalidRequest, for the user, when the directory
    cannot be used, another worker uses it, or the sandbox does not work.
    """
    with (
        own_directory(config) as processes,
        ThreadPoolExecutor(max_workers=config.slots + 2, thread_name_prefix="worker") as executor,
    ):
        sandbox = await open_sandbox(config, processes)
        directories = DirectoryReader()
        inputs = _open_inputs(config, executor, directories)
        async with (
            open_containers(config, sandbox, processes) as containers,
            open_channel(config.server, tls=config.tls) as channel,
            _cas_channel(config, channel) as cas_channel,
        ):
            clients = _Clients(cas_channel, config.cas or config.server)
            parts = WorkerParts(
                config=config,
                reader=ActionReader(directories),
                inputs=inputs,
                containers=containers,
                executor=executor,
                cas=clients.cas,
                early_results=clients.action_cache,
                action_cache=clients.action_cache if config.updates_action_cache else None,
                groups=find_control_groups() if config.limits != ResourceLimits() else None,
                live=live_output(channel),
            )
            worker = Worker(config, parts, QueueClient(channel))
            async with HealthServer(config, worker):
                yield worker


def _open_inputs(
    config: WorkerConfig, executor: ThreadPoolExecutor, directories: DirectoryReader
) -> InputRoots:
    """Input roots, with the blobs and the directories that were kept from before."""
    cache = BlobCache(config.directory / "cache", max_bytes=config.cache_bytes, executor=executor)
    cache.open()
    pool = TreePool(
        config.directory / "trees", max_entries=config.pool_entries, max_bytes=config.cache_bytes
    )
    pool.open()
    return InputRoots(
        cache=cache,
        pool=pool,
        executor=executor,
        directories=directories,
        allow_absolute_symlinks=config.allow_absolute_symlinks,
    )


async def run_worker(config: WorkerConfig, *, drain: asyncio.Event | None = None) -> None:
    """Run a worker until `drain` is set (or for ever), then finish what runs and return.

    Raises what `open_worker` raises.
    """
    async with open_worker(config) as worker:

        async def drain_when_told(told: asyncio.Event) -> None:
            await told.wait()
            worker.drain()

        watcher = asyncio.create_task(drain_when_told(drain or asyncio.Event()))
        try:
            await worker.serve()
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher


class _Clients:
    """One CAS client an instance, and copies of it that carry an action's headers."""

    def __init__(self, channel: grpc.aio.Channel, url: str) -> None:
        self._channel = channel
        self._limits = ClientLimits(retry=_RETRY, is_far=not parse_address(url).is_local)
        self._clients: dict[str, CasClient] = {}

    def cas(self, assignment: Assignment) -> CasClient:
        """The CAS of the action's instance, called on behalf of the action's client."""
        client = self._clients.get(assignment.instance)
        if client is None:
            client = CasClient(self._channel, instance=assignment.instance, limits=self._limits)
            self._clients[assignment.instance] = client
        return client.with_metadata(assignment.headers)

    def action_cache(self, assignment: Assignment) -> ActionCacheClient:
        """The ActionCache of the action's instance, likewise."""
        return ActionCacheClient(
            self._channel,
            instance=assignment.instance,
            limits=self._limits,
            metadata=assignment.headers,
        )


@asynccontextmanager
async def _cas_channel(
    config: WorkerConfig, default: grpc.aio.Channel
) -> AsyncIterator[grpc.aio.Channel]:
    if config.cas is None:
        yield default
        return
    async with open_channel(config.cas, tls=config.tls) as channel:
        yield channel
