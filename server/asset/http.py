"""Downloads by http and https."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from remote_apis.errors import OutOfSpace
from server.asset.addresses import AddressPolicy
from server.asset.errors import OriginError, Reason
from server.asset.urls import Url, redirected

_CONNECT_SECONDS = 15.0
_IDLE_SECONDS = 60.0
_CHUNK = 256 * 1024
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REASONS = {
    **dict.fromkeys((404, 410), Reason.NOT_FOUND),
    **dict.fromkeys((401, 403, 407, 451), Reason.PERMISSION_DENIED),
    **dict.fromkeys((408, 504), Reason.DEADLINE_EXCEEDED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A GET. The headers, with names in lower case, go to no other origin than the URL's."""

    url: Url
    headers: Mapping[str, str] = field(default_factory=dict)

    def redirected(self, location: str) -> HttpRequest:
        """The request that follows a redirect. Raises OriginError."""
        url = redirected(self.url, location)
        return HttpRequest(url=url, headers=self.headers if url.origin == self.url.origin else {})


class HttpOrigin:
    """Downloads on threads of its own."""

    def __init__(self, *, policy: AddressPolicy, max_bytes: int, threads: int) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(threads, "asset-http")
        self._tls = ssl.create_default_context()

    def close(self) -> None:
        """Downloads under way end by themselves, their callers being gone."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def download(self, request: HttpRequest, destination: Path) -> None:
        """Write the body to a file, following redirects. Raises OriginError, OutOfSpace.

        When cancelled, the connection is cut at once.
        """
        await self._run(request, destination)

    async def probe(self, request: HttpRequest) -> HttpRequest:
        """Only see that it is there; the request to which redirects lead. Raises OriginError."""
        return await self._run(request, None)

    async def _run(self, request: HttpRequest, destination: Path | None) -> HttpRequest:
        download = _Download(self._policy, self._tls, self._max_bytes)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, download.run, request, destination)
        finally:
            download.stop()


class _Download:
    """Runs on a thread; `stop` may be called from any other."""

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext, max_bytes: int) -> None:
        self._policy = policy
        self._tls = tls
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stopped = False

    def stop(self) -> None:
        """End it soon, whatever it waits for."""
        with self._lock:
            self._stopped = True
            if self._socket is not None:
                # the TLS layer's own shutdown is not to be called while another thread reads
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def run(self, request: HttpRequest, destination: Path | None) -> HttpRequest:
        """Download to the destination if there is one; the last request. Raises OriginError."""
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                location = self._get(request, destination)
            except TimeoutError:
                raise OriginError(
                    Reason.DEADLINE_EXCEEDED, f"{request.url}: no answer in time"
                ) from None
            except (http.client.HTTPException, OSError) as error:
                why = str(error) or type(error).__name__
                raise OriginError(Reason.ABORTED, f"{request.url}: {why}") from error
            if location is None:
                return request
            request = request.redirected(location)
        raise OriginError(Reason.ABORTED, f"{request.url}: more than {_MAX_REDIRECTS} redirects")

    def _get(self, request: HttpRequest, destination: Path | None) -> str | None:
        """Where the answer redirects to, or None when it was the content."""
        with (
            contextlib.closing(self._connect(request.url)) as connection,
            contextlib.closing(_answer(connection, request)) as response,
        ):
            if response.status in _REDIRECTS and response.headers["Location"]:
                return str(response.headers["Location"])
            _check_status(request.url, response)
            if destination is not None:
                self._save(request.url, response, destination)
            return None

    def _connect(self, url: Url) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(url.host, url.port)
        raw = self._open(url)
        try:
            if url.scheme == "https":
                raw = self._tls.wrap_socket(raw, server_hostname=url.host)
        except BaseException:
            raw.close()
            raise
        raw.settimeout(_IDLE_SECONDS)
        self._register(raw)
        # with a socket in place it neither looks up a name nor connects by itself
        connection.sock = raw
        return connection

    def _open(self, url: Url) -> socket.socket:
        failure: OSError = ConnectionError("no address to connect to")
        for address in self._policy.resolve(url.host, url.port):
            raw = socket.socket(address.family, socket.SOCK_STREAM)
            try:
                self._register(raw)
                raw.settimeout(_CONNECT_SECONDS)
                raw.connect(address.target)
            except OSError as error:
                raw.close()
                failure = error
                if not self._stopped:
                    continue
                raise
            return raw
        if isinstance(failure, TimeoutError):
            raise failure
        raise ConnectionError(f"cannot connect: {failure.strerror or failure}") from failure

    def _register(self, raw: socket.socket) -> None:
        with self._lock:
            if self._stopped:
                raw.close()
                raise ConnectionAbortedError("stopped")
            self._socket = raw

    def _save(self, url: Url, response: http.client.HTTPResponse, destination: Path) -> None:
        expected = response.length
        if expected is not None and expected > self._max_bytes:
            raise _too_large(url, self._max_bytes)
        size = 0
        with destination.open("wb") as file:
            while data := response.read(_CHUNK):
                size += len(data)
                if size > self._max_bytes:
                    raise _too_large(url, self._max_bytes)
                _write(file, data)
        if self._stopped or (expected is not None and size != expected):
            raise OriginError(
                Reason.ABORTED, f"{url}: the connection ended after {size} of {expected} bytes"
            )


def _answer(
    connection: http.client.HTTPConnection, request: HttpRequest
) -> http.client.HTTPResponse:
    headers = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "cargo-distbuild"}
    if request.url.authorization is not None:
        headers["authorization"] = request.url.authorization
    headers |= request.headers
    headers |= {"host": request.url.authority, "connection": "close"}
    connection.putrequest("GET", request.url.target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value.encode())
    connection.endheaders()
    return connection.getresponse()


def _check_status(url: Url, response: http.client.HTTPResponse) -> None:
    if response.status != http.HTTPStatus.OK:
        reason = _REASONS.get(response.status, Reason.ABORTED)
        raise OriginError(
            reason, f"{url}: the origin says {response.status} {response.reason[:160]}"
        )


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise OutOfSpace(f"cannot keep a download: {error.strerror}") from error


def _too_large(url: Url, limit: int) -> OriginError:
    return OriginError(Reason.ABORTED, f"{url}: larger than the {limit} bytes that are fetched")
