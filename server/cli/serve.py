"""`distbuild serve` and `distbuild scheduler run`: open the stores, listen, start the workers."""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import logging
import signal
import sys

import uvloop

from remote_apis.errors import FailedPrecondition
from server.cli.wiring import ServerSettings, serving
from server.cli.workers import local_workers

DRAIN_SECONDS = 30.0
START_SECONDS = 60.0
_YOUNG_OBJECTS = 20_000


def run_server_command(parsed: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, then drain. Raises DistbuildError and OSError at start."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    check_listen(parsed.listen, insecure=parsed.insecure)
    settings = ServerSettings(
        listen=parsed.listen,
        data_dir=parsed.data_dir,
        max_size=parsed.max_size,
        asset_fetch=parsed.asset_fetch,
    )
    workers = getattr(parsed, "workers", 0)
    uvloop.run(_serve(settings, workers, parsed))
    return 0


def check_listen(listen: str, *, insecure: bool) -> None:
    """Refuse to serve other machines by accident. Raises FailedPrecondition."""
    if listen.startswith("unix:") or insecure:
        return
    host = listen.rpartition(":")[0].strip("[]")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise FailedPrecondition(
            f"{listen} can be reached from other machines, and there is no encryption and no "
            "identity yet; listen on 127.0.0.1 or unix:PATH, or say --insecure"
        )


async def _serve(settings: ServerSettings, workers: int, parsed: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with (
        serving(settings) as server,
        local_workers(
            count=workers,
            parsed=parsed,
            server=server.url,
            directory=settings.data_dir / "worker",
        ),
    ):
        await server.wait_for_workers(workers, START_SECONDS)
        with_workers = f" with {workers} workers ({parsed.sandbox})" if workers else ""
        _calm_garbage_collection()
        print(f"distbuild serves {server.url} from {settings.data_dir}{with_workers}")
        sys.stdout.flush()
        await stop.wait()
        logging.info("draining; another signal ends at once")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await server.drain(DRAIN_SECONDS)


def _calm_garbage_collection() -> None:
    """What is there at the start stays: looking through it stopped everything for 40 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
