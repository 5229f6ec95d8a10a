"""What a workspace's Cargo.lock says."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from wrapper.build_scripts.names import above

_DEPENDENCY = re.compile(rb'^ "([^" ]+)', re.MULTILINE)


def find_lock(directory: str) -> bytes | None:
    """The nearest Cargo.lock at or above a directory."""
    for each in (directory, *above(directory)):
        with suppress(OSError), open(os.path.join(each, "Cargo.lock"), "rb") as file:
            return file.read()
    return None


def is_depended_on(package: str, lock: bytes) -> bool:
    """Whether a package of the lock file names this one among its dependencies."""
    return package.encode() in _DEPENDENCY.findall(lock)
