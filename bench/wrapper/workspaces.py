"""The workspaces that are built, fetched once."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_RIPGREP = "14.1.1"
_SHORT_OF_ROOM = 20 << 30
_numbers = itertools.count()
_FETCHER = """\
[package]
name = "fetcher"
version = "0.0.0"
edition = "2021"
[workspace]
[dependencies]
ripgrep = "={version}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace. `program` is what a debug build leaves in target/debug.

    `leaf` is a source file of the crate on which no other depends, `base` one of the crate on which
    most do; empty where that is the same crate.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    leaf: str
    base: str = ""


EXAMPLE = Workspace(
    name="example",
    program="main-binary",
    arguments=("1/3 + 1/6",),
    leaf="crates/main-binary/src/main.rs",
    base="crates/lib-common/src/lib.rs",
)
RIPGREP = Workspace(
    name="ripgrep",
    program="rg",
    arguments=("--version",),
    leaf="crates/core/main.rs",
)
MEDLEY = Workspace(
    name="medley",
    program="medley",
    arguments=("--help",),
    leaf="crates/medley/src/main.rs",
    base="crates/medley-core/src/lib.rs",
)
WORKSPACES = (EXAMPLE, RIPGREP, MEDLEY)


def fetch(workspace: Workspace, directory: Path, environment: Mapping[str, str]) -> Path:
    """The workspace's sources with a lock file in `directory`; crates go to CARGO_HOME."""
    sources = directory / workspace.name
    if not sources.exists():
        if workspace is RIPGREP:
            _unpack_ripgrep(directory, sources, environment)
        else:
            origin = _HERE.parent.parent / "examples" / "workspace"
            origin = _HERE / "medley" if workspace is MEDLEY else origin
            shutil.copytree(origin, sources, ignore=shutil.ignore_patterns("target"))
    _fetch_crates(sources, environment)
    return sources


def _unpack_ripgrep(directory: Path, sources: Path, environment: Mapping[str, str]) -> None:
    fetcher = directory / "fetcher"
    (fetcher / "src").mkdir(parents=True, exist_ok=True)
    (fetcher / "src" / "lib.rs").write_text("")
    (fetcher / "Cargo.toml").write_text(_FETCHER.format(version=_RIPGREP))
    _fetch_crates(fetcher, environment)
    registry = Path(environment["CARGO_HOME"]) / "registry" / "src"
    (package,) = registry.glob(f"*/ripgrep-{_RIPGREP}")
    shutil.copytree(package, sources)


def _fetch_crates(sources: Path, environment: Mapping[str, str]) -> None:
    """Those for this machine alone; a lock file is written where there is none."""
    said = subprocess.check_output(["rustc", "-vV"], env=environment, text=True)
    host = next(line.split()[1] for line in said.splitlines() if line.startswith("host:"))
    subprocess.run(
        ["cargo", "fetch", "--quiet", "--target", host], cwd=sources, env=environment, check=True
    )


def discard(path: Path, into: Path) -> None:
    """Take a directory out of the way, to be deleted with all else in the end.

    Some file systems are slow to make files for minutes after many were deleted, and the next
    build would pay. A file that has another name loses this one, as it would by being deleted: a
    cache that shares files with target directories counts their names. Where the disk is short of
    room, all that was discarded before goes now.
    """
    if not path.exists():
        return
    if shutil.disk_usage(path).free < _SHORT_OF_ROOM:
        shutil.rmtree(into, ignore_errors=True)
    into.mkdir(exist_ok=True)
    for directory, _, names in os.walk(path):
        for file in (os.path.join(directory, name) for name in names):
            if os.lstat(file).st_nlink > 1:
                os.unlink(file)
    path.rename(into / str(next(_numbers)))


def copy_tree(source: Path, target: Path) -> None:
    """Copy with all times, which cargo and every cache go by."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    os.utime(target)
