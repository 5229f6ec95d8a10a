"""Removing what actions leave behind."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

_LOG = logging.getLogger(__name__)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all below it, if it is there. Blocks.

    Also what an action locked or nested so deeply that its paths are too long. What cannot be
    removed all the same is logged and stays until the worker starts again.
    """
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        # These tools work from one directory to the next, without whole paths.
        if os.geteuid() != 0:
            _run("chmod", "-R", "u+rwx", directory)
        _run("rm", "-rf", directory)
        if directory.exists():
            _LOG.warning("cannot remove %s", directory)


def _run(program: str, *arguments: str | Path) -> None:
    subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
