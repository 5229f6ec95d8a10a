"""The workers of `distbuild serve`: one child process with a slot for each, started again if it
dies."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from server.cli.execution_options import execution_arguments, execution_settings
from server.cli.worker import OF_SERVER
from worker.config import WorkerConfig
from worker.removal import remove_tree
from worker.sandbox.engine import open_engine
from worker.sandbox.select import open_sandbox

RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0
_NAME = "worker"


@contextlib.asynccontextmanager
async def local_workers(
    *, count: int, parsed: argparse.Namespace, server: str, directory: Path
) -> AsyncIterator[None]:
    """Run `count` workers, named worker-1 and on, until the block ends; they drain then.

    `parsed` has the options of `execution_options`. Raises InvalidRequest, saying how to go on,
    when the sandbox or the engine that was asked for does not work.
    """
    if count == 0:
        yield
        return
    await _check_sandbox(parsed, directory.with_name("sandbox-check"))
    command = [
        sys.executable, "-m", "server.cli.main", "worker", "run", "--id", _NAME,
        "--slots", str(count), "--server", server, "--cache-dir", str(directory),
        *execution_arguments(parsed), OF_SERVER,
    ]  # fmt: skip
    process = await _start(command)
    keeper = asyncio.create_task(_keep(command, process))
    try:
        yield
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


async def _start(command: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)


async def _keep(command: list[str], process: asyncio.subprocess.Process) -> None:
    """Start the process again whenever it ends; when cancelled, drain it."""
    try:
        while True:
            code = await process.wait()
            logging.error("the workers ended with code %s; starting them again", code)
            await asyncio.sleep(RESTART_SECONDS)
            process = await _start(command)
    finally:
        if process.returncode is None:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _check_sandbox(parsed: argparse.Namespace, directory: Path) -> None:
    """Try it in this process, whose user sees what is wrong, and not again and again."""
    remove_tree(directory)
    directory.mkdir()
    try:
        settings = execution_settings(parsed)
        config = WorkerConfig(name=_NAME, server="", directory=directory, **settings)
        await open_sandbox(config)
        if config.container_engine not in ("auto", "none"):
            await open_engine(config.container_engine, directory)
    finally:
        remove_tree(directory)
