"""Resource limits of an action as rlimits, and as a prefix to its command."""

from __future__ import annotations

from worker.config import ResourceLimits

_PRLIMIT = "/usr/bin/prlimit"


def rlimits(limits: ResourceLimits, *, with_processes: bool) -> list[tuple[str, int]]:
    """What rlimits can express, by the names that prlimit(1) has for them.

    Memory counts for each process by itself, as writable private memory: address space that is
    only reserved, as compilers and virtual machines do, is free. Processes count for a user, so
    that `with_processes` is for sandboxes where an action has a user of its own.
    """
    values = {"cpu": limits.cpu_seconds, "data": limits.memory_bytes, "fsize": limits.file_bytes}
    if with_processes:
        values["nproc"] = limits.processes
    return [(name, value) for name, value in values.items() if value is not None]


def limited(limits: ResourceLimits, *, with_processes: bool) -> list[str]:
    """prlimit(1) with `rlimits`; nothing when no limit is set."""
    options = [
        f"--{name}={value}" for name, value in rlimits(limits, with_processes=with_processes)
    ]
    return [_PRLIMIT, *options, "--"] if options else []
