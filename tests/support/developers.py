"""A developer for end-to-end tests: a home, a CARGO_HOME, checkouts, and cargo distbuild."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from running import BIN

NEW_LAYOUT = {"RUSTC_BOOTSTRAP": "1", "CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true"}
"""Has cargo lay out its build directory as it does from 1.100 on."""

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "workspace"
BUILD_SECONDS = 600


@dataclass
class Developer:
    """Runs commands with an environment of their own; `stop` ends daemon and embedded server."""

    directory: Path
    remote: str | None
    cargo_home: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()

    @property
    def home(self) -> Path:
        """DISTBUILD_HOME."""
        return self.directory / "distbuild"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of this developer's shell."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISTBUILD_", "CARGO_"))}
        kept |= {
            "PATH": f"{BIN}:{kept['PATH']}",
            "DISTBUILD_HOME": str(self.home),
            "CARGO_HOME": str(self.cargo_home or self.directory / "cargo"),
        }
        if self.remote is not None:
            kept["DISTBUILD_REMOTE"] = self.remote
        return kept | self.extra

    def run(
        self, *command: str | Path, cwd: Path, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; its output is captured."""
        done = subprocess.run(
            [*self.prefix, *command], cwd=cwd, env=self.environment | environment, text=True,
            capture_output=True, timeout=BUILD_SECONDS, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done

    def build(self, checkout: Path, *arguments: str, **environment: str) -> list[dict[str, Any]]:
        """`cargo distbuild build`; the units of the build."""
        self.run("cargo", "distbuild", "build", *arguments, cwd=checkout, check=True, **environment)
        return self.units(checkout)

    def units(self, cwd: Path) -> list[dict[str, Any]]:
        """The units of the last build, from `cargo distbuild stats --json`."""
        done = self.run("cargo", "distbuild", "stats", "--json", cwd=cwd)
        units: list[dict[str, Any]] = json.loads(done.stdout)["units"]
        return units

    def checkout(self, name: str, source: Path = EXAMPLE) -> Path:
        """A copy of a workspace below this developer's directory."""
        target = self.directory / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("target"))
        return target


def outputs(directory: Path, name: str) -> list[Path]:
    """Files that units made, below a profile's directory, in either of cargo's layouts."""
    return [*directory.glob(f"deps/{name}"), *directory.glob(f"build/*/*/out/{name}")]


def of_scripts(directory: Path, package: str, name: str) -> list[Path]:
    """Files of a package's build script and its runs, below a profile's directory."""
    build = directory / "build"
    return [*build.glob(f"{package}-*/{name}"), *build.glob(f"{package}/*/{name}")]


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """The directory, with these files in it."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@contextmanager
def developer(
    directory: Path,
    remote: str | None,
    *,
    cargo_home: Path | None = None,
    prefix: Sequence[str] = (),
    **extra: str,
) -> Iterator[Developer]:
    """A developer whose daemon and embedded server are stopped at the end.

    `prefix` starts every command of theirs, see `machines.Machine`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    person = Developer(directory, remote, cargo_home, extra, prefix)
    try:
        yield person
    finally:
        person.run(BIN / "cargo-distbuild", "stop", cwd=directory)


def away_from(directory: Path) -> tuple[str, ...]:
    """A prefix for programs that find the directory empty, as on another machine."""
    return _with_mount("-t tmpfs tmpfs", directory)


def with_files_of(files: Path, directory: Path) -> tuple[str, ...]:
    """A prefix for programs that find in the directory what is in `files`, too."""
    return _with_mount(f"-t overlay -o lowerdir={files}:{directory} overlay", directory)


def _with_mount(options: str, directory: Path) -> tuple[str, ...]:
    own_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = f'mount {options} "$0" && exec "$@"'
    return ("unshare", *own_user, "--mount", "sh", "-c", script, str(directory))


def outcomes(units: Sequence[dict[str, Any]]) -> set[str]:
    """The different outcomes of some units."""
    return {unit["outcome"] for unit in units}
