"""A control group for each action, where the worker may make some (cgroup v2)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from worker.config import ResourceLimits

_LOG = logging.getLogger(__name__)
_NEEDED = frozenset({"memory", "pids"})
_WANTED = ("cpu", "memory", "pids")
_CPU_PERIOD_US = 100_000
# The shell puts itself into the group and becomes the sandbox: nothing runs outside for a moment.
_ENTER = 'echo 0 > "$0/cgroup.procs" && exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionGroup:
    """One action's control group."""

    path: Path

    @property
    def wrapper(self) -> tuple[str, ...]:
        """A program with arguments that starts another one inside the group."""
        return ("/bin/sh", "-c", _ENTER, str(self.path))

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed for want of memory here."""
        try:
            lines = (self.path / "memory.events").read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)


class ControlGroups:
    """Makes groups below one that belongs to the worker."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._numbers = itertools.count()

    @contextmanager
    def group(self, limits: ResourceLimits) -> Iterator[ActionGroup]:
        """A group with these limits. All that is left in it is killed at the end.

        Raises OSError.
        """
        path = self._base / f"action-{os.getpid()}-{next(self._numbers)}"
        path.mkdir()
        try:
            _set_limits(path, limits)
            yield ActionGroup(path=path)
        finally:
            with contextlib.suppress(OSError):
                (path / "cgroup.kill").write_text("1")
            try:
                path.rmdir()
            except OSError as error:
                _LOG.warning("cannot remove %s: %s", path, error)

    def close(self) -> None:
        """Remove groups that are empty by now."""
        for path in self._base.glob("action-*"):
            with contextlib.suppress(OSError):
                path.rmdir()


def beyond_groups(limits: ResourceLimits) -> ResourceLimits:
    """What of the limits a group cannot express, and rlimits have to."""
    return replace(limits, cpus=None, memory_bytes=None, processes=None)


def find_control_groups(
    mounts: Path = Path("/proc/self/mountinfo"), own: Path = Path("/proc/self/cgroup")
) -> ControlGroups | None:
    """Groups for actions, or None where this process may not make any.

    That takes cgroup v2 with the memory and pids controllers, in a group that was handed over to
    this service (systemd's Delegate=yes) or is a container's own. Its processes move into a group
    beside those of the actions: a group with limits below it holds no processes itself.
    """
    base = _own_group(mounts, own)
    if base is None:
        return None
    try:
        offered = set((base / "cgroup.controllers").read_text().split())
        if not offered >= _NEEDED or not _is_handed_over(base):
            return None
        main = base / "distbuild"
        main.mkdir(exist_ok=True)
        for pid in (base / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (main / "cgroup.procs").write_text(pid)
        enabled = " ".join(f"+{name}" for name in _WANTED if name in offered)
        (base / "cgroup.subtree_control").write_text(enabled)
    except OSError as error:
        _LOG.warning("actions get no control groups: %s", error)
        return None
    groups = ControlGroups(base)
    groups.close()
    return groups


def _own_group(mounts: Path, own: Path) -> Path | None:
    relative = None
    for line in own.read_text().splitlines():
        if line.startswith("0::"):
            relative = line.removeprefix("0::")
    for line in mounts.read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if tail.startswith("cgroup2 ") and relative is not None:
            return Path(head.split()[4] + relative)
    return None


def _is_handed_over(base: Path) -> bool:
    """Delegated by systemd, or the top of what a container sees."""
    for attribute in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(base, attribute) == b"1":
                return True
    return not (base.parent / "cgroup.controllers").exists() and (base / "cgroup.type").exists()


def _set_limits(path: Path, limits: ResourceLimits) -> None:
    values: dict[str, str] = {}
    if limits.memory_bytes is not None:
        values |= {"memory.max": str(limits.memory_bytes), "memory.oom.group": "1"}
    if limits.processes is not None:
        values["pids.max"] = str(limits.processes)
    if limits.cpus is not None:
        values["cpu.max"] = f"{int(limits.cpus * _CPU_PERIOD_US)} {_CPU_PERIOD_US}"
    for name, value in values.items():
        (path / name).write_text(value)
    if limits.memory_bytes is not None and (path / "memory.swap.max").exists():
        (path / "memory.swap.max").write_text("0")
