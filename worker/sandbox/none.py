"""Actions without isolation, for machines where no sandbox can run and the user said so."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from worker.materialise import Owner
from worker.process import Child, output_file
from worker.sandbox.interface import Finished, SandboxRequest
from worker.sandbox.limits import limited
from worker.sandbox.sessions import kill_session

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


class NoSandbox:
    """Runs the command as the worker's own user, in a session of its own (see `Sandbox`).

    The action sees the machine's files and network. /tmp is the machine's, unless the Command sets
    TMPDIR. A process that makes another session escapes the kill. When the worker is killed, so is
    the command with its session, and whatever inherited `tether` and kept it open; once the command
    itself has ended, only the latter.
    """

    def __init__(self, tether: int | None = None) -> None:
        """`tether`: see `worker.tether`."""
        self._inherited = () if tether is None else (tether,)

    def inside(self, root: Path, *, is_file_system: bool = False) -> str:
        return str(root)

    def owner(self, slot: int) -> Owner | None:
        return None

    async def run(self, request: SandboxRequest, *, timeout: float | None) -> Finished:
        started = time.monotonic()
        directory = request.root / request.working_directory
        with ExitStack() as stack:
            stdout = stack.enter_context(output_file(request.stdout, None, None))
            stderr = stack.enter_context(output_file(request.stderr, None, None))
            program = find_program(request, directory)
            if program is None:
                os.write(stderr, f"{request.arguments[0]}: command not found\n".encode())
                return Finished(exit_code=_NOT_FOUND, timed_out=False, seconds=0.0)
            prefix = [*request.wrapper, *limited(request.limits, with_processes=False)]
            try:
                child = Child(
                    [*prefix, program, *request.arguments[1:]] if prefix else request.arguments,
                    program=prefix[0] if prefix else program,
                    environment=request.environment,
                    directory=directory,
                    stdout=stdout,
                    stderr=stderr,
                    inherited=self._inherited,
                )
            except OSError as error:
                os.write(stderr, f"{request.arguments[0]}: {error.strerror}\n".encode())
                return Finished(exit_code=_NOT_EXECUTABLE, timed_out=False, seconds=0.0)
            timed_out = False
            try:
                async with asyncio.timeout(timeout):
                    code = await child.wait()
            except TimeoutError:
                timed_out = True
                code = -signal.SIGKILL
            finally:
                # Also after a normal end: what the command left running might write on.
                await kill_session(child)
        seconds = time.monotonic() - started
        return Finished(
            exit_code=code if code >= 0 else 128 - code, timed_out=timed_out, seconds=seconds
        )


def find_program(request: SandboxRequest, directory: Path) -> str | None:
    """The program that arguments[0] means (REAPI 2.12 Command); None when PATH has none.

    A name with a slash is relative to the working directory; another one is looked up in the
    PATH that the Command sets.
    """
    name = request.arguments[0]
    if "/" in name:
        path = directory / name
        return str(path) if path.exists() else None
    for entry in request.environment.get("PATH", os.defpath).split(":"):
        candidate = directory / entry / name
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None
