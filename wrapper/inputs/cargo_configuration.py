"""What cargo's configuration says to a macro that asks cargo about its workspace.

Users have files of their own, in CARGO_HOME or above their checkouts, and most of what these say
matters to no answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from wrapper.build_scripts.names import above, is_below
from wrapper.config import TABLE, config_files
from wrapper.roots import Roots

_OF_NO_ANSWER = (
    "alias", "cargo-new", "credential-alias", "future-incompat-report", "http", "install", "net",
    "term", TABLE,
)  # fmt: skip
_OF_COMPILES = ("incremental", "jobs", "rustc-workspace-wrapper", "rustc-wrapper")
"""How cargo talks and fetches, and, of `[build]`, how it compiles."""
HOME = "CARGO_HOME"


def files_of_user(roots: Roots, environment: Mapping[str, str]) -> list[str]:
    """cargo's configuration files outside of the workspace, the nearest first."""
    files = map(str, config_files(Path(roots.package), environment))
    return [file for file in files if not is_below(file, (roots.workspace,))]


def said_by_user(roots: Roots, environment: Mapping[str, str]) -> str:
    """What these say, in a word each, and how far up. Raises OSError."""
    return "".join(_words(roots, environment))


def _words(roots: Roots, environment: Mapping[str, str]) -> Iterator[str]:
    levels = {directory: n for n, directory in enumerate(above(roots.workspace))}
    for file in files_of_user(roots, environment):
        said = _said(Path(file).read_bytes())
        if said:
            # paths in it are relative to where it lies
            level = levels.get(os.path.dirname(os.path.dirname(file)), HOME)
            yield f" {level}={hashlib.sha256(said).hexdigest()}"


def _said(content: bytes) -> bytes:
    """What of a file may matter; all of it where it cannot be understood."""
    try:
        tables = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return content
    left = {name: value for name, value in tables.items() if name not in _OF_NO_ANSWER}
    build = left.get("build")
    if isinstance(build, dict):
        left["build"] = {k: v for k, v in build.items() if k not in _OF_COMPILES}
    left = {name: value for name, value in left.items() if value != {}}
    return json.dumps(left, sort_keys=True, default=str).encode() if left else b""
