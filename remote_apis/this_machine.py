"""Which machine a process runs on, as both ends of a connection can compare it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

MACHINE_HEADER = "distbuild-machine-bin"
"""Initial metadata of GetCapabilities: the server's `machine_id`."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def machine_id() -> bytes:
    """16 bytes that all processes on a running kernel have in common, whatever container or network
    they are in, and that tell nothing else of it; none where the kernel does not say.
    """
    try:
        boot = _BOOT_ID.read_bytes()
    except OSError:
        return b""
    return hashlib.sha256(b"cargo-distbuild's machine " + boot).digest()[:16]
