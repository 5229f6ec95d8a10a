"""A PID namespace that bubblewrap made: its end, by itself or by force."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from types import TracebackType

from worker.process import Child, wait_for_exit


class Namespace:
    """Follows one run of bubblewrap by what it writes to --json-status-fd.

    A context manager around the pipe: give `status_fd` to bubblewrap, call `started` when it
    runs, then `supervise`. `exit_code` is the command's, None when it was never started.
    """

    def __init__(self) -> None:
        self._read_fd, self.status_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._text = b""
        self.exit_code: int | None = None
        self._first_pid: int | None = None

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._read_fd)
        self.started()

    def started(self) -> None:
        """Close this side's copy of the pipe's writing end."""
        if self.status_fd >= 0:
            os.close(self.status_fd)
            self.status_fd = -1

    async def supervise(self, child: Child, timeout: float | None) -> bool:
        """Wait for the end; after `timeout` seconds or when cancelled, kill. Returns whether late.

        No process of the namespace is left afterwards.
        """
        is_late = False
        try:
            async with asyncio.timeout(timeout):
                await child.wait()
        except TimeoutError:
            is_late = True
            await self._kill(child)
        except asyncio.CancelledError:
            await self._kill(child)
            raise
        # The command is over; what it left running is killed right now, as the namespace goes.
        # Only then is nobody writing to the outputs any more.
        await self._gone()
        return is_late

    async def _kill(self, child: Child) -> None:
        """Kill the namespace by its first process, bubblewrap with it, and wait for both."""
        self._refresh()
        if self._first_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first_pid, signal.SIGKILL)
        child.kill()
        is_cancelled = False
        while True:
            try:
                await child.wait()
                await self._gone()
                break
            except asyncio.CancelledError:
                # It takes as long as the kernel needs; to leave before would leave processes.
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError

    async def _gone(self) -> None:
        self._refresh()
        if self._first_pid is not None:
            await wait_for_exit(self._first_pid)

    def _refresh(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._read_fd, 4096):
                self._text += data
        for line in self._text.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                report = json.loads(line)
                self._first_pid = report.get("child-pid", self._first_pid)
                self.exit_code = report.get("exit-code", self.exit_code)
