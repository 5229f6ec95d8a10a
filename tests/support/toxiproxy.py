"""toxiproxy: connections that are slow, stall, are cut and come back."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One way to a server. Toxics are toxiproxy's, by its names."""

    api: str
    name: str
    port: int

    @property
    def url(self) -> str:
        """The server's address by this way."""
        return f"grpc://127.0.0.1:{self.port}"

    def poison(self, kind: str, stream: str = "downstream", **attributes: int) -> None:
        """Add a toxic; `downstream` is from server to client."""
        toxic = {"type": kind, "stream": stream, "attributes": attributes}
        _call(self.api, "POST", f"/proxies/{self.name}/toxics", toxic)

    def heal(self) -> None:
        """Take all toxics away, and let connections through."""
        for toxic in _call(self.api, "GET", f"/proxies/{self.name}/toxics"):
            _call(self.api, "DELETE", f"/proxies/{self.name}/toxics/{toxic['name']}")
        _call(self.api, "POST", f"/proxies/{self.name}", {"enabled": True})

    def cut(self) -> None:
        """Close all connections and take no others, until `heal`."""
        _call(self.api, "POST", f"/proxies/{self.name}", {"enabled": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxiproxy:
    """A running toxiproxy."""

    api: str

    def proxy(self, name: str, upstream: str) -> Proxy:
        """A way to `upstream`, HOST:PORT."""
        answer = _call(
            self.api,
            "POST",
            "/proxies",
            {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True},
        )
        port = int(answer["listen"].rpartition(":")[2])
        return Proxy(api=self.api, name=name, port=port)


@contextlib.contextmanager
def toxiproxy(program: Path) -> Iterator[Toxiproxy]:
    """toxiproxy's server, with all its proxies gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [program, "-host", "127.0.0.1", "-port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        api = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                _call(api, "GET", "/version")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        yield Toxiproxy(api=api)
    finally:
        process.kill()
        process.wait(SECONDS)


def _call(api: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(api + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        text = answer.read()
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text.decode()
