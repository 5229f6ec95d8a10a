"""Removing what actions leave behind."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all below it, also what an action made unreadable. Blocks.

    What cannot be removed is logged and stays until the worker starts again.
    """

    def unlock(function: Callable[..., Any], path: str, failure: Any) -> None:
        error = failure[1]
        if isinstance(error, FileNotFoundError):
            return
        if isinstance(error, PermissionError):
            parent = Path(path).parent
            try:
                os.chmod(parent, 0o700)
                if function in (os.open, os.scandir):
                    os.chmod(path, 0o700)
                    shutil.rmtree(path)
                else:
                    function(path)
                return
            except OSError as second:
                error = second
        _LOG.warning("cannot remove %s: %s", path, error)

    shutil.rmtree(directory, onerror=unlock)
