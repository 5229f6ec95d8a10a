"""Resource limits of an action as a prefix to its command."""

from __future__ import annotations

from worker.config import ResourceLimits

_PRLIMIT = "/usr/bin/prlimit"


def limited(limits: ResourceLimits, *, with_processes: bool) -> list[str]:
    """prlimit(1) with what rlimits can express; nothing when no limit is set.

    Memory counts for each process by itself, as writable private memory: address space that is
    only reserved, as compilers and virtual machines do, is free. Processes count for a user, so
    that `with_processes` is for sandboxes where an action has a user of its own.
    """
    options = []
    if limits.cpu_seconds is not None:
        options.append(f"--cpu={limits.cpu_seconds}")
    if limits.memory_bytes is not None:
        options.append(f"--data={limits.memory_bytes}")
    if limits.file_bytes is not None:
        options.append(f"--fsize={limits.file_bytes}")
    if limits.processes is not None and with_processes:
        options.append(f"--nproc={limits.processes}")
    return [_PRLIMIT, *options, "--"] if options else []
