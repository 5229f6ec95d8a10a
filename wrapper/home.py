"""The wrapper's directory, and the settings that a build's environment carries."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NO_REMOTE = "none"
EMBEDDED = "embedded"
BY_HAND = "cargo-distbuild-wrapper"
"""The shell script for RUSTC_WRAPPER, which becomes the shim."""

DEFAULT_CACHE_BYTES = 20 * 1024**3

RETRIED_SECONDS = 60
"""So long after a daemon could not be started the shim does not try again (`shim/daemon.c`)."""


@dataclass(frozen=True, slots=True)
class Home:
    """DISTBUILD_HOME and what lies in it. Everything can be deleted while no build runs."""

    path: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Home:
        """DISTBUILD_HOME, or `cargo-distbuild` in the user's cache directory."""
        explicit = environment.get("DISTBUILD_HOME")
        if explicit:
            return cls(Path(explicit).absolute())
        cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(Path(cache) / "cargo-distbuild")

    @property
    def shim(self) -> Path:
        """The program for RUSTC_WRAPPER; cargo remembers its path, size and mtime."""
        return self.path / "bin" / "rustc-shim"

    @property
    def launcher(self) -> Path:
        """What stands in a build script's place; not there where no C compiler is."""
        return self.path / "bin" / "build-script-launcher"

    @property
    def asked_variables(self) -> Path:
        """The library that is loaded into watched compilers; not there where no C compiler is."""
        return self.path / "bin" / "asked-variables.so"

    @property
    def start_daemon(self) -> Path:
        """The shell script by which the shim starts the daemon."""
        return self.path / "bin" / "start-daemon"

    @property
    def daemon_state(self) -> Path:
        """Process id and version of the running daemon, as JSON."""
        return self.path / "daemon.json"

    @property
    def daemon_lock(self) -> Path:
        """Held by the running daemon, from before it has a state to its end."""
        return self.path / "daemon.lock"

    @property
    def daemon_failed(self) -> Path:
        """There, as old as that is, where the daemon could not be started the last time."""
        return self.path / "daemon.failed"

    @property
    def builds(self) -> Path:
        """One file of statistics a build."""
        return self.path / "builds"

    @property
    def keys(self) -> Path:
        """The journal of units' keys, SQLite."""
        return self.path / "keys.sqlite"

    def digests(self, function: str) -> Path:
        """The digests of large files, a toolchain's before all, as JSON."""
        return self.path / f"digests-{function}.json"

    @property
    def sha256_servers(self) -> Path:
        """The addresses of servers that know no better digest function, a line each."""
        return self.path / "sha256-servers"

    @property
    def jobs(self) -> Path:
        """A server's address and how many units a build with it has under way, as one line."""
        return self.path / "jobs"

    @property
    def server_state(self) -> Path:
        """Process id and address of the embedded server, as JSON."""
        return self.path / "server.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """Which server a build uses. `url` None: none; "embedded": one of its own on this machine."""

    url: str | None
    instance: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> RemoteSettings:
        """DISTBUILD_REMOTE and DISTBUILD_INSTANCE."""
        url = environment.get("DISTBUILD_REMOTE")
        return cls(
            url=None if url == NO_REMOTE else url or None,
            instance=environment.get("DISTBUILD_INSTANCE", ""),
        )


def cache_bytes(environment: Mapping[str, str]) -> int:
    """DISTBUILD_CACHE_SIZE: what the local tier may take, 20 GiB unless it says otherwise."""
    text = environment.get("DISTBUILD_CACHE_SIZE", "")
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if match is None:
        return DEFAULT_CACHE_BYTES
    unit: int = 1024 ** "_KMGT".index(match.group(2) or "_")
    return int(match.group(1)) * unit


def short_socket_directory(home: Home) -> Path:
    """A directory for sockets whose path fits a socket address (108 bytes on Linux)."""
    if len(os.fsencode(home.path)) <= 80:
        return home.path
    base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    suffix = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:12]
    name = f"cargo-distbuild-{os.getuid()}-{suffix}"
    return Path(base) / name
