"""What cargo's manifests say of a package: where its library is, and if they alone name what it
depends on.

The crate proc-macro-crate asks cargo for the workspace's manifest too, where it can. That matters
only if `[workspace.dependencies]` gives a dependency another name than its package's.
"""

from __future__ import annotations

import functools
import os
import tomllib
from typing import Any

from wrapper.build_scripts.names import above

_LIBRARY = "src/lib.rs"


def says_all_names(package: str) -> bool:
    """Whether no manifest beside the one in a package's directory counts. Raises OSError."""
    try:
        if "workspace" in _table(_load(package), "package"):
            return False  # it says itself where its workspace is
        beside = (each for each in above(package) if os.path.isfile(f"{each}/Cargo.toml"))
        return not any(_renames(_load(each)) for each in beside)
    except tomllib.TOMLDecodeError:
        return False


def library_root(package: str) -> str:
    """The path of a library's first source, relative to its package's directory. Raises OSError."""
    try:
        st = os.stat(os.path.join(package, "Cargo.toml"))
    except FileNotFoundError:
        return _LIBRARY
    return _library_root(package, (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns))


@functools.lru_cache(maxsize=1000)
def _library_root(package: str, _state: tuple[int, ...]) -> str:
    try:
        path = _table(_load(package), "lib").get("path")
    except tomllib.TOMLDecodeError:
        path = None
    return os.path.normpath(path) if isinstance(path, str) else _LIBRARY


def _load(directory: str) -> dict[str, Any]:
    with open(os.path.join(directory, "Cargo.toml"), "rb") as file:
        return tomllib.load(file)


def _table(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found = manifest.get(name)
    return found if isinstance(found, dict) else {}


def _renames(manifest: dict[str, Any]) -> bool:
    dependencies = _table(_table(manifest, "workspace"), "dependencies")
    return any(isinstance(each, dict) and "package" in each for each in dependencies.values())
