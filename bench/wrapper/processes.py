"""Run a command and account for everything that it sets going, daemons included.

This process becomes the one to which orphans fall. So every daemon that a build starts, however it
detaches itself, stays its descendant: found in /proc while it lives, and in the usage of reaped
children after.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_QUIET_SECONDS = 0.3
_QUIET_SHARE = 0.05
_SETTLE_SECONDS = 120.0
_LOG_TAIL = 3000


class Failed(Exception):
    """A command ended badly; the message has its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a command took. `wall` ends with the command; the CPU seconds of `user` and `system`
    include what its daemons did before and after that on its behalf."""

    wall: float
    user: float
    system: float


def adopt_orphans() -> None:
    """Have daemons that are started from now on become this process's children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the reaper of daemons")


def measure(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path
) -> Cost:
    """Run a command to its end, and wait for its daemons to fall quiet. Raises Failed."""
    user, system = _used()
    started = time.perf_counter()
    # daemons inherit the descriptors: with pipes, the end would be the daemon's
    with log.open("wb") as output:
        code = subprocess.call(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    wall = time.perf_counter() - started
    if code != 0:
        said = log.read_text(errors="replace")[-_LOG_TAIL:]
        raise Failed(f"{' '.join(command)} in {cwd} ended with {code}:\n{said}")
    settle()
    user_after, system_after = _used()
    return Cost(wall=wall, user=user_after - user, system=system_after - system)


def settle() -> None:
    """Wait until all descendants together use less than a twentieth of a processor."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = sum(_used())
    while time.monotonic() < deadline:
        time.sleep(_QUIET_SECONDS)
        now = sum(_used())
        if now - before < _QUIET_SHARE * _QUIET_SECONDS + 1e-3:
            return
        before = now


def _used() -> tuple[float, float]:
    """User and system seconds of all descendants so far, of those alive and those reaped."""
    _reap()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = ended.ru_utime, ended.ru_stime
    tick = os.sysconf("SC_CLK_TCK")
    for fields in _descendants():
        # utime, stime, and the same of the children that it has waited for
        user += (int(fields[11]) + int(fields[13])) / tick
        system += (int(fields[12]) + int(fields[14])) / tick
    return user, system


def _descendants() -> list[list[str]]:
    """The fields of /proc/PID/stat from the third on, of each process below this one."""
    fields_of: dict[int, list[str]] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(errors="replace")
            except OSError:
                continue  # it has just ended
            fields = fields_of[int(entry)] = text.rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    pending = [os.getpid()]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return [fields_of[pid] for pid in found]


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass
