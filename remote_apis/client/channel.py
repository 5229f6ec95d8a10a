"""Opening a gRPC channel from the address a user gives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import grpc.aio

from remote_apis.errors import InvalidRequest

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_LOCAL = re.compile(r"unix:|(localhost|127\.[\d.]+|\[::1\]):")
_FORMS = "grpc://HOST:PORT, grpcs://HOST:PORT or unix:PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files for grpcs://. Unset: the system's roots, and no client certificate."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens: gRPC's own name for it, and whether it speaks TLS."""

    target: str
    is_tls: bool

    @property
    def is_local(self) -> bool:
        """Whether it is loopback or a Unix socket."""
        return _LOCAL.match(self.target) is not None


def parse_address(url: str) -> Address:
    """The address behind `url`. Raises InvalidRequest, saying which forms there are."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if path.startswith("//"):
            path = path[2:]
        if not path:
            raise InvalidRequest(f"{url!r} names no socket; write unix:PATH")
        return Address(target=f"unix:{path}", is_tls=False)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"{url!r} is not a server address ({error}); write {_FORMS}") from None
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname or port is None:
        raise InvalidRequest(f"{url!r} is not a server address; write {_FORMS}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise InvalidRequest(f"{url!r} has more than host and port; write {_FORMS}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(target=f"{host}:{port}", is_tls=parts.scheme == "grpcs")


def open_channel(
    url: str, *, tls: TlsFiles | None = None, keepalive_seconds: float = 60.0
) -> grpc.aio.Channel:
    """A channel to the server at `url`; it connects on first use. Close it with `await close()`.

    Must be called where an event loop runs. Raises InvalidRequest on a wrong address and OSError
    when a TLS file cannot be read.
    """
    address = parse_address(url)
    options = _options(address, keepalive_seconds)
    if not address.is_tls:
        return grpc.aio.insecure_channel(address.target, options=options)
    return grpc.aio.secure_channel(address.target, _credentials(tls), options=options)


def _options(address: Address, keepalive_seconds: float) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", int(keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that comes back is found again within a second.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # In truth the least time that a connection attempt gets.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        # Two channels to one address share no connection and no backoff.
        ("grpc.use_local_subchannel_pool", 1),
        # Retries are this package's own, see retry.py.
        ("grpc.enable_retries", 0),
    ]
    if address.target.startswith("unix:"):
        # The default, an escaped path, is refused by servers written in Go.
        options.append(("grpc.default_authority", "localhost"))
    return options


def _credentials(tls: TlsFiles | None) -> grpc.ChannelCredentials:
    files = tls or TlsFiles()

    def content(path: Path | None) -> bytes | None:
        return path.read_bytes() if path is not None else None

    return grpc.ssl_channel_credentials(
        root_certificates=content(files.ca),
        private_key=content(files.key),
        certificate_chain=content(files.certificate),
    )
