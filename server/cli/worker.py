"""`distbuild worker run`: a worker process, by itself or as a child of `distbuild serve`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable

import uvloop

from remote_apis import link_set
from remote_apis.errors import InvalidRequest
from remote_apis.resource_names import check_instance_name
from server.cli.execution_options import execution_settings
from worker.config import WorkerConfig, host_properties
from worker.run import open_worker

OF_SERVER = "--until-stdin-closes"
"""How `distbuild serve` starts its worker: it drains when its stdin ends, so that it outlives no
server, however that one ended."""
_ORPHAN_SECONDS = 15.0
"""How long it finishes and reports then, unless the next server's worker ends it sooner."""


def run_worker_command(parsed: argparse.Namespace) -> int:
    """Work until SIGINT or SIGTERM, then drain. Raises DistbuildError and OSError at start."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    uvloop.run(_run(_config(parsed), of_server=parsed.until_stdin_closes))
    return 0


def _config(parsed: argparse.Namespace) -> WorkerConfig:
    return WorkerConfig(
        name=parsed.id,
        server=parsed.server,
        directory=parsed.cache_dir,
        slots=parsed.slots,
        numbers_slots=parsed.until_stdin_closes,
        ends_predecessor=parsed.until_stdin_closes,
        cas=parsed.cas,
        updates_action_cache=parsed.results == "worker",
        instance_prefix=check_instance_name(parsed.instance_prefix),
        properties=_properties(parsed),
        cache_bytes=parsed.cache_size,
        http_address=None if parsed.port is None else ("127.0.0.1", parsed.port),
        **execution_settings(parsed),
    )


def _properties(parsed: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    given = [_property(text) for text in parsed.property]
    if parsed.machine_properties == "off":
        return tuple(sorted(given))
    own_linker = link_set.link_set()
    if own_linker is not None:
        given.append((link_set.PROPERTY, own_linker))
    return host_properties(given)


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidRequest(f"--property {text!r} is not NAME=VALUE")
    return name, value


async def _run(config: WorkerConfig, *, of_server: bool) -> None:
    loop = asyncio.get_running_loop()
    async with open_worker(config) as worker:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, worker.drain)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:

                def end() -> None:
                    worker.drain()
                    limit.reschedule(loop.time() + _ORPHAN_SECONDS)

                if of_server:
                    await loop.connect_read_pipe(lambda: _AtEnd(end), sys.stdin)
                else:
                    print(
                        f"distbuild worker {config.name} works for {config.server} "
                        f"({config.sandbox})"
                    )
                    sys.stdout.flush()
                await worker.serve()


class _AtEnd(asyncio.Protocol):
    """Calls a function when its pipe ends."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def connection_lost(self, error: Exception | None) -> None:
        self._call()
