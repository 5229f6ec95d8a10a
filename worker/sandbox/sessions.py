"""Killing all processes of a session."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from worker.process import Child, wait_for_exit

_RECORD = "session"


async def kill_session(child: Child) -> None:
    """Kill what runs in the session that `child` leads or led, and wait until it is gone.

    Not interrupted by a cancellation, which is raised at the end instead.
    """
    is_cancelled = False
    child.kill_group()
    while True:
        try:
            await child.wait()
            members = list(session_members(child.pid))
            if not members:
                break
            kill(members)
            for pid in members:
                await wait_for_exit(pid)
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


def record_session(directory: Path, session: int) -> None:
    """Note in an action's directory which session runs there."""
    (directory / _RECORD).write_text(str(session))


def end_recorded_sessions(slots: Path) -> None:
    """Kill what actions of a worker that was killed left running. Blocks a moment.

    `slots` holds the actions' directories. A number may have gone to another session meanwhile,
    so that only processes inside those directories are killed.
    """
    for record in slots.glob(f"*/*/{_RECORD}"):
        text = record.read_text()
        if text.isdecimal():
            kill([pid for pid in session_members(int(text)) if _works_below(pid, slots)])


def _works_below(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(directory.resolve())
    except OSError:
        return False


def kill(pids: list[int]) -> None:
    """Send SIGKILL to those that still exist and may be killed."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def session_members(session: int) -> Iterator[int]:
    """Processes of a session that have not ended."""
    for name in os.listdir("/proc"):
        # Asking the kernel costs a hundredth of reading each process's files.
        if not name.isdecimal():
            continue
        try:
            is_member = os.getsid(int(name)) == session
        except ProcessLookupError:
            continue
        if is_member and not _has_ended(int(name)):
            yield int(name)


def _has_ended(pid: int) -> bool:
    """Whether it is gone, or waits for its parent to notice."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    # The name in parentheses may hold anything; the state follows it.
    return text.rpartition(")")[2].split()[0] in "ZX"
