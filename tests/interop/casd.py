"""Starts buildbox-casd as a caching proxy: clients speak to its socket, it speaks to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .processes import client_environment, service
from .programs import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Casd:
    """A running proxy; `url` is what a client takes for a server."""

    socket: Path
    log: Path

    @property
    def url(self) -> str:
        return f"unix:{self.socket}"

    def objects(self) -> set[Path]:
        """The blobs in the proxy's own cache."""
        cache = self.socket.parent / "cache" / "cas" / "objects"
        return {path for path in cache.rglob("*") if path.is_file()}


StartCasd = Callable[..., Casd]


def casd_starter(tools: Tools, directory: Path) -> Iterator[StartCasd]:
    """Yields a function that starts a proxy of a server, each with an empty cache of its own."""
    with ExitStack() as running:

        def start(name: str, server_url: str, *options: str) -> Casd:
            home = directory / name
            environment = client_environment(home)
            proxy = Casd(socket=home / "socket", log=home / "log")
            command: list[str | Path] = [
                tools.casd, f"--bind={proxy.url}", f"--remote={server_url}", "--proxy-instance=",
                "--retry-limit=0", "--verbose", *options, home / "cache",
            ]  # fmt: skip
            running.enter_context(
                service(command, log=proxy.log, ready=proxy.socket.exists, environment=environment)
            )
            return proxy

        yield start
