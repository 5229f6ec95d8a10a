"""What the cargo that made a call is at, as its process tells."""

from __future__ import annotations

import os

from wrapper.daemon.protocol import Call


def cargos_directory(call: Call) -> str:
    """Where cargo runs. It starts rustc elsewhere for packages that are no members."""
    try:
        return os.readlink(f"/proc/{call.parent}/cwd")
    except OSError:
        return call.cwd


def cargos_arguments(call: Call) -> list[str]:
    """Its command line but for the program; empty where it cannot be seen."""
    try:
        with open(f"/proc/{call.parent}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[1:-1]]
    except OSError:
        return []
