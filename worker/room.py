"""Whether an action's disk had room: commands do not always say when it had none."""

from __future__ import annotations

import os
from pathlib import Path

from remote_apis.errors import OutOfSpace

LEAST_BYTES = 64 * 1024
"""A disk with less left counts as full: a write of a few pages may have failed."""


def check_room(directory: Path) -> None:
    """After a command: raises OutOfSpace when its disk is full.

    What it wrote may be cut short then, whatever its exit code; and an exit code that is not 0
    would blame the action.
    """
    status = os.statvfs(directory)
    if status.f_bavail * status.f_frsize < LEAST_BYTES:
        raise OutOfSpace("the worker's disk was full when the command ended")
    # some file systems count no files, and say so with zeros
    if status.f_files and not status.f_favail:
        raise OutOfSpace("the worker's disk could hold no more files when the command ended")
