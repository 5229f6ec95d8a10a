"""ccache in a C compiler's place on PATH, as distributions put it there."""

from __future__ import annotations

import os

OFF = {"CCACHE_DISABLE": "1"}
"""Has it run the compiler and do nothing else: what it keeps is no input, and no output."""


def behind_ccache(name: str, path: str) -> str | None:
    """The program that ccache runs where it is found on a PATH by a compiler's name: the next one
    of that name. None where it is not found so."""
    is_there = False
    for directory in path.split(":"):
        found = os.path.join(directory, name)
        if not os.path.isabs(found) or not os.access(found, os.X_OK):
            continue
        if os.path.basename(os.path.realpath(found)) != "ccache":
            return found if is_there else None
        is_there = True
    return None
