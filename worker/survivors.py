"""Ending what a worker left running, and the program that does it when the worker is killed.

Every sandbox holds a pipe open from before it starts until nothing of its action is left, so that
the pipe tells whether anything survives, and /proc what. Python's standard library alone: this
file is started as a program of its own, which has to be small and must not fail.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator

WRITERS = 0o200
"""Who can write to the pipe: the worker itself, and its sandboxes."""
ALL = 0o600
"""These, and who can only read from it: the program below, of this or an earlier worker."""
_ROUND_SECONDS = 1.0
_PAUSE_SECONDS = 0.005


def has_writers(pipe: int) -> bool:
    """Whether any process can write to the pipe, of which `pipe` is a reading, unblocked end."""
    try:
        while os.read(pipe, 65536):
            pass
    except BlockingIOError:
        return True
    return False


def holders(pipe: int, access: int, *, but: int = 0) -> Iterator[int]:
    """Processes that have the pipe open in one of these ways, each as a pidfd to close.

    Neither this process nor the one with id `but` is among them.
    """
    wanted = os.fstat(pipe)
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) in (os.getpid(), but):
            continue
        try:
            handle = os.pidfd_open(int(name))
        except OSError:
            continue
        if _holds(name, wanted, access):
            yield handle
        else:
            os.close(handle)


def _holds(pid: str, wanted: os.stat_result, access: int) -> bool:
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            try:
                # What the link itself permits is what the file was opened for.
                if os.path.samestat(os.stat(path), wanted) and os.lstat(path).st_mode & access:
                    return True
            except OSError:
                continue
    except OSError:
        pass
    return False


def end_holders(pipe: int, access: int, *, patience: float, but: int = 0) -> bool:
    """Kill what `holders` finds, with the sessions that it leads, and wait for the end.

    Whatever they start meanwhile is found too, as it holds the pipe from its first moment on.
    Gives up after `patience` seconds: whether all are gone. Blocks.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = list(holders(pipe, access, but=but))
        try:
            for handle in found:
                _kill_with_session(handle)
            _wait(found, min(_ROUND_SECONDS, deadline - time.monotonic()))
        finally:
            for handle in found:
                os.close(handle)
        if not found and not has_writers(pipe):
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


def _kill_with_session(handle: int) -> None:
    try:
        pid = _pid_of(handle)
        # A process that does not lead its session may still be in the one of the worker's parent.
        members = list(session_members(pid)) if pid > 0 and os.getsid(pid) == pid else []
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return
    kill(members)


def _pid_of(handle: int) -> int:
    """The process id behind a pidfd, 0 or less when that has ended."""
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as lines:
        return next((int(line[4:]) for line in lines if line.startswith("Pid:")), 0)


def _wait(handles: list[int], seconds: float) -> None:
    """Until these processes have ended, or the time is over."""
    deadline = time.monotonic() + seconds
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)


def kill(pids: list[int]) -> None:
    """Send SIGKILL to those that still exist and may be killed."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


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
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return True
    # The name in parentheses may hold anything; the state follows it.
    return text.rpartition(")")[2].split()[0] in "ZX"


def main() -> None:
    """Wait until stdin ends, as it does with the worker, and end what that left running.

    Arguments: the number of the pipe's inherited reading end, and the worker's process id.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pipe, worker = int(sys.argv[1]), int(sys.argv[2])
    while os.read(0, 1):
        pass
    # The worker may not be quite dead yet.
    end_holders(pipe, WRITERS, patience=60.0, but=worker)


if __name__ == "__main__":
    main()
