"""The worker's own HTTP port: is it well, and what has it done."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from remote_apis.errors import InvalidRequest
from worker.blob_cache import BlobCache
from worker.config import WorkerConfig
from worker.lease import Slot
from worker.tree_pool import TreePool

_MAX_REQUEST = 16 * 1024
_REQUEST_SECONDS = 10.0
_PREFIX = "distbuild_worker_"


class Figures(Protocol):
    """What there is to tell; `worker.run.Worker` has it."""

    slots: list[Slot]

    @property
    def cache(self) -> BlobCache: ...

    @property
    def pool(self) -> TreePool: ...


class HealthServer:
    """GET /healthz and GET /metrics (Prometheus text), while the context lasts.

    Healthy means that at least one slot is in touch with the scheduler. Without an address in
    the configuration it does nothing.
    """

    def __init__(self, config: WorkerConfig, figures: Figures) -> None:
        self._config = config
        self._figures = figures
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> HealthServer:
        if self._config.http_address is not None:
            host, port = self._config.http_address
            try:
                self._server = await asyncio.start_server(
                    self._answer, host, port, limit=_MAX_REQUEST
                )
            except OSError as error:
                raise InvalidRequest(
                    f"the worker cannot listen on {host}:{port}: {error.strerror}"
                ) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def port(self) -> int | None:
        """The port it listens on; of use when it was asked for port 0."""
        if self._server is None:
            return None
        return int(self._server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(request.split(b"\r\n", 1)[0].decode("latin-1")))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError):
            pass  # a client that does not speak HTTP, or went away, is owed nothing
        finally:
            writer.close()

    def _response(self, request_line: str) -> bytes:
        method, _, rest = request_line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _http("405 Method Not Allowed", "only GET\n", method)
        if path == "/healthz":
            if any(slot.state.is_connected for slot in self._figures.slots):
                return _http("200 OK", "ok\n", method)
            return _http("503 Service Unavailable", "no contact with the scheduler\n", method)
        if path == "/metrics":
            return _http("200 OK", self._metrics(), method)
        return _http("404 Not Found", "try /healthz or /metrics\n", method)

    def _metrics(self) -> str:
        states, cache = [slot.state for slot in self._figures.slots], self._figures.cache
        busy = sum(bool(state.action) for state in states)
        connected = sum(state.is_connected for state in states)
        finished = sum(state.finished for state in states)
        kept = self._figures.pool.entries
        figures = [
            ("slots", "gauge", "Slots of this worker", len(states)),
            ("slots_busy", "gauge", "Slots that work on an action", busy),
            ("slots_connected", "gauge", "Slots in touch with the scheduler", connected),
            ("actions_total", "counter", "Actions finished, whatever their outcome", finished),
            ("cache_bytes", "gauge", "Bytes of input blobs in the cache", cache.size),
            ("cache_files", "gauge", "Files in the cache", len(cache)),
            ("kept_entries", "gauge", "Files and directories of input roots kept for later", kept),
        ]  # fmt: skip
        label = self._config.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return "".join(
            f"# HELP {_PREFIX}{name} {text}\n# TYPE {_PREFIX}{name} {kind}\n"
            f'{_PREFIX}{name}{{worker="{label}"}} {value}\n'
            for name, kind, text, value in figures
        )


def _http(status: str, body: str, method: str) -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else content)
