"""The workers of `distbuild serve`: one child process with a slot for each, started again if it
dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from server.cli.worker import OF_SERVER
from worker.config import WorkerConfig
from worker.sandbox.select import open_sandbox

RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0
_NAME = "worker"


@contextlib.asynccontextmanager
async def local_workers(
    *, count: int, sandbox: str, server: str, directory: Path
) -> AsyncIterator[None]:
    """Run `count` workers, named worker-1 and on, until the block ends; they drain then."""
    if count == 0:
        yield
        return
    command = [
        sys.executable, "-m", "server.cli.main", "worker", "run", "--id", _NAME,
        "--slots", str(count), "--server", server, "--cache-dir", str(directory),
        "--sandbox", sandbox, OF_SERVER,
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


async def check_sandbox(name: str, data_dir: Path) -> None:
    """Try the sandbox before anything is served. Raises InvalidRequest, saying how to go on."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir, prefix="sandbox-") as directory:
        Path(directory).chmod(0o755)
        await open_sandbox(
            WorkerConfig(name=_NAME, server="", directory=Path(directory), sandbox=name)
        )
