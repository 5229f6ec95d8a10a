"""A child process watched by its pidfd, whatever event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class Child:
    """A started process. `wait` before it is dropped, so that no zombie stays.

    `program` is what runs when that is not arguments[0]. Started by vfork, hence cheap in a large
    process and without gRPC's fork handlers.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        program: str | None = None,
        directory: Path | None = None,
        stdout: int,
        stderr: int,
        inherited: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            arguments,
            executable=program,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=inherited,
            start_new_session=True,
        )
        self.pid = self._process.pid

    async def wait(self) -> int:
        """The exit code, negative for a signal. May be cancelled and called again."""
        if self._process.returncode is None:
            await wait_for_exit(self.pid)
            self._process.wait()
        code = self._process.returncode
        assert code is not None
        return code

    def kill(self) -> None:
        """Send SIGKILL to the process alone, if it still runs."""
        self._process.kill()

    def kill_group(self) -> None:
        """Send SIGKILL to the session's first process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


async def wait_for_exit(pid: int) -> None:
    """Return when the process has ended, or does not exist; it need not be a child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        loop.add_reader(handle, on_readable)
        try:
            await ended
        finally:
            loop.remove_reader(handle)
    finally:
        os.close(handle)


@contextmanager
def output_file(path: Path, uid: int | None, gid: int | None) -> Iterator[int]:
    """A fresh file for a command's output, open for appending.

    It belongs to the action's user, who may open /dev/stderr anew.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        if uid is not None and gid is not None:
            os.fchown(handle, uid, gid)
        yield handle
    finally:
        os.close(handle)
