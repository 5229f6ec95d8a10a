"""Starts buildbox-casd as a caching proxy: clients speak to its socket, it speaks to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .processes import client_environment, run, service
from .programs import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Casd:
    """A running proxy; `url` is what a client takes for a server."""

    tools: Tools
    home: Path

    @property
    def socket(self) -> Path:
        return self.home / "socket"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def url(self) -> str:
        return f"unix:{self.socket}"

    def local(self, verb: str, what: str | Path) -> None:
        """Has the proxy capture a file, or fetch a blob: see local_cas.py."""
        script = Path(__file__).with_name("local_cas.py")
        # Isolated: a module of ours beside the script has the name of BuildStream's package.
        python = self.tools.bst.with_name("python")
        command: list[str | Path] = [python, "-I", script, verb, self.socket, what]
        run(command, environment=client_environment(self.home), timeout=90).ok()

    def objects(self) -> set[Path]:
        """The blobs in the proxy's own cache."""
        return {path for path in self._objects.rglob("*") if path.is_file()}

    def object(self, digest: str) -> Path:
        """Where the proxy keeps the blob HASH/SIZE."""
        return self._objects / digest[:2] / digest.partition("/")[0][2:]

    @property
    def _objects(self) -> Path:
        return self.home / "cache" / "cas" / "objects"


StartCasd = Callable[..., Casd]


def casd_starter(tools: Tools, directory: Path) -> Iterator[StartCasd]:
    """Yields a function that starts a proxy of a server, each with an empty cache of its own."""
    with ExitStack() as running:

        def start(name: str, server_url: str, *options: str) -> Casd:
            proxy = Casd(tools=tools, home=directory / name)
            environment = client_environment(proxy.home)
            command: list[str | Path] = [
                tools.casd, f"--bind={proxy.url}", f"--remote={server_url}", "--proxy-instance=",
                "--retry-limit=0", "--log-level=trace", *options, proxy.home / "cache",
            ]  # fmt: skip
            running.enter_context(
                service(command, log=proxy.log, ready=proxy.socket.exists, environment=environment)
            )
            return proxy

        yield start
