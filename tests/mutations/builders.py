"""Who builds: plain cargo, cargo distbuild with warm and with empty caches, and the peers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from developers import Developer, developer

from tests.mutations.observe import Observation, observe

TARGETS = ("--workspace", "--bins", "--examples", "--tests", "--offline", "--message-format=json")
_LEFT_OUT = ("RUST", "SCCACHE", "KACHE", "GEN_", "MAC_", "CSYS_", "PLAIN_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One build: where, by whom, with what."""

    workspace: Path
    who: str = "alice"
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Builder(Protocol):
    """Builds an order in an empty target directory and looks at what was made."""

    name: str

    def build(self, order: Order) -> Observation:
        """Build. The target directory is left for the next to remove."""
        ...


def _environment(person: Developer, order: Order) -> dict[str, str]:
    kept = {k: v for k, v in person.environment.items() if not k.startswith(_LEFT_OUT)}
    kept |= {k: v for k, v in os.environ.items() if k in ("RUSTUP_HOME", "RUSTUP_TOOLCHAIN")}
    kept |= {"CARGO_INCREMENTAL": "0", "CARGO_TERM_COLOR": "never"}
    return kept | {k: v.format(ws=order.workspace) for k, v in order.environment.items()}


def _build(person: Developer, command: Sequence[str], order: Order, **more: str) -> Observation:
    shutil.rmtree(order.workspace / "target", ignore_errors=True)
    environment = _environment(person, order) | more
    built = subprocess.run(
        [*command, *TARGETS, *order.arguments], cwd=order.workspace, env=environment,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    observation = observe(built, order.workspace, environment)
    assert (
        built.returncode == 0 or "messages" in str(observation.facts) or ("error" in built.stderr)
    ), built.stderr
    return observation


@dataclass
class Plain:
    """Plain cargo; the reference for behaviour. `homes` has a CARGO_HOME for each person."""

    homes: Path
    name: str = "cargo"
    command: tuple[str, ...] = ("cargo", "build")
    more: Mapping[str, str] = field(default_factory=dict)

    def build(self, order: Order) -> Observation:
        """With the wrapper that `more` names, if any."""
        directory = self.homes / order.who
        directory.mkdir(parents=True, exist_ok=True)
        return _build(Developer(directory, "none"), self.command, order, **self.more)


@dataclass
class Distbuild:
    """cargo distbuild, for people whose caches stay from build to build."""

    people: Mapping[str, Developer]
    name: str = "distbuild"

    def build(self, order: Order) -> Observation:
        """As the person of the order."""
        return _build(self.people[order.who], ("cargo", "distbuild", "build"), order)


@dataclass
class Fresh:
    """cargo distbuild with neither caches nor a server: the reference for bytes."""

    homes: Path
    name: str = "distbuild, empty"

    def build(self, order: Order) -> Observation:
        """In a new home, which has only the shim of the last one."""
        directory = self.homes / order.who
        shim = directory / "distbuild" / "bin"
        kept = self.homes / "bin"
        if shim.exists() and not kept.exists():
            shutil.copytree(shim, kept)
        shutil.rmtree(directory / "distbuild", ignore_errors=True)
        if kept.exists():
            shutil.copytree(kept, shim)
        with developer(directory, "none") as person:
            return _build(person, ("cargo", "distbuild", "build"), order)


def _program(name: str) -> str | None:
    return os.environ.get(name.upper()) or shutil.which(name)


@contextlib.contextmanager
def sccache(directory: Path) -> Iterator[Plain | None]:
    """sccache as RUSTC_WRAPPER with a server of its own; None where it is not installed."""
    program = _program("sccache")
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    more = {
        "RUSTC_WRAPPER": program, "SCCACHE_DIR": str(directory / "cache"),
        "SCCACHE_SERVER_PORT": port, "SCCACHE_IDLE_TIMEOUT": "600",
    }  # fmt: skip
    try:
        yield Plain(homes=directory, name="sccache", more=more)
    finally:
        subprocess.run(
            [program, "--stop-server"], env=os.environ | more, check=False, capture_output=True
        )


@contextlib.contextmanager
def kache(directory: Path) -> Iterator[Plain | None]:
    """kache as RUSTC_WRAPPER with a cache of its own; None where it is not installed."""
    program = _program("kache")
    if program is None:
        yield None
        return
    more = {"RUSTC_WRAPPER": program, "KACHE_CACHE_DIR": str(directory / "cache")}
    more["KACHE_CONFIG"] = str(directory / "none.toml")
    try:
        yield Plain(homes=directory, name="kache", more=more)
    finally:
        subprocess.run(
            [program, "daemon", "stop"], env=os.environ | more, check=False, capture_output=True
        )
