"""What the server alone takes for an action: the queue, the scheduler, the results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import uvloop

from bench.execution.load import Load, percentile
from bench.execution.scripted_workers import idle_worker, scripted_workers
from bench.figures import Figure
from bench.servers import Server, serving

_CLIENTS = 32
_QUEUED = 10_000


def dispatch_figures(directory: Path, count: int) -> Iterator[Figure]:
    """Rates with one and four workers, the delay at 100 a second."""
    for workers in (1, 4):
        with serving(directory / f"dispatch{workers}") as server:
            rate, cpu = uvloop.run(_rate(server, workers, count))
        yield Figure(f"dispatch, {workers} scripted workers", rate, "actions/s", higher=True)
        yield Figure(f"dispatch, {workers} scripted workers, server CPU", cpu * 1000, "ms/action")
    with serving(directory / "delay") as server:
        delays = uvloop.run(_delays(server, count // 4))
    for percent in (50, 99):
        value = percentile(delays, percent) * 1000
        yield Figure(f"dispatch delay at 100/s, p{percent}", value, "ms")


def queue_figures(directory: Path) -> Iterator[Figure]:
    """Memory of the server with many operations that wait for a worker."""
    with serving(directory / "queue") as server:
        grown = uvloop.run(_queue_memory(server))
    yield Figure("memory of a queued operation", grown / _QUEUED / 1024, "KiB")


async def _rate(server: Server, workers: int, count: int) -> tuple[float, float]:
    """Actions a second, and the server's CPU seconds for one."""
    async with (
        grpc.aio.insecure_channel(server.target) as clients,
        grpc.aio.insecure_channel(server.target, [("own", 1)]) as of_workers,
        scripted_workers(of_workers, workers),
    ):
        load = Load(clients)
        await load.run_all(await load.prepare(count // 10), at_once=_CLIENTS)
        actions = await load.prepare(count)
        before = server.cpu_seconds()
        rate = await load.run_all(actions, at_once=_CLIENTS)
        return rate, (server.cpu_seconds() - before) / count


async def _delays(server: Server, count: int) -> list[float]:
    async with (
        grpc.aio.insecure_channel(server.target) as clients,
        grpc.aio.insecure_channel(server.target, [("own", 1)]) as of_workers,
        scripted_workers(of_workers, 4) as received,
    ):
        load = Load(clients)
        await load.run_all(await load.prepare(100), at_once=_CLIENTS)
        actions = await load.prepare(count)
        await load.run_paced(actions, per_second=100)
        return [received[each.hash] - load.sent_at[each.hash] for each in actions]


async def _queue_memory(server: Server) -> int:
    """Bytes by which the server grows; the clients have hung up by then."""
    async with (
        grpc.aio.insecure_channel(server.target) as clients,
        grpc.aio.insecure_channel(server.target, [("own", 1)]) as of_workers,
        idle_worker(of_workers),
    ):
        load = Load(clients)
        await load.accept(await load.prepare(1000))
        actions = await load.prepare(_QUEUED)
        before = server.resident_bytes()
        await load.accept(actions)
        return server.resident_bytes() - before
