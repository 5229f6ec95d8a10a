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

    A context manager around pipes: give `status_fd` to bubblewrap, and `inner_fd` to another one
    that runs in it, if there is one. Call `started` when it runs, then `supervise`.
    """

    def __init__(self, *, has_inner: bool) -> None:
        self._outer = _Status()
        self._inner = _Status() if has_inner else self._outer
        self._pipes = {self._outer, self._inner}

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.started()
        for status in self._pipes:
            os.close(status.read_fd)

    @property
    def status_fd(self) -> int:
        """For --json-status-fd of bubblewrap itself."""
        return self._outer.write_fd

    @property
    def inner_fd(self) -> int:
        """The same for bubblewrap in bubblewrap."""
        return self._inner.write_fd

    def started(self) -> None:
        """Close this side's copies of the pipes' writing ends."""
        for status in self._pipes:
            status.started()

    @property
    def exit_code(self) -> int | None:
        """The command's exit code after `supervise`; None when it was never started."""
        return self._inner.exit_code

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
        is_cancelled = False
        while True:
            try:
                # A bubblewrap killed before it tells would leave a child that nobody knows.
                await self._outer.wait_for_first_process()
                if self._outer.first_pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self._outer.first_pid, signal.SIGKILL)
                child.kill()
                await child.wait()
                await self._gone()
                break
            except asyncio.CancelledError:
                # It takes as long as the kernel needs; to leave before would leave processes.
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError

    async def _gone(self) -> None:
        for status in self._pipes:
            status.refresh()
        if self._outer.first_pid is not None:
            await wait_for_exit(self._outer.first_pid)


class _Status:
    """A pipe for what one bubblewrap tells, and what it told."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self._text = b""
        self._is_at_end = False
        self.exit_code: int | None = None
        self.first_pid: int | None = None

    def started(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    async def wait_for_first_process(self) -> None:
        """Until `first_pid` is known, or there will be no such process."""
        loop = asyncio.get_running_loop()
        self.refresh()
        while self.first_pid is None and not self._is_at_end:
            readable = asyncio.Event()
            loop.add_reader(self.read_fd, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self.read_fd)
            self.refresh()

    def refresh(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.read_fd, 4096):
                self._text += data
            self._is_at_end = True
        for line in self._text.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                report = json.loads(line)
                self.first_pid = report.get("child-pid", self.first_pid)
                self.exit_code = report.get("exit-code", self.exit_code)
