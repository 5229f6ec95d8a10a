"""Listening: on a port of this machine or a Unix socket, never on another server's."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc.aio

from remote_apis.errors import FailedPrecondition

OPTIONS = (
    # a second server on the same port must fail, not share it
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


def bind(server: grpc.aio.Server, listen: str) -> str:
    """Listen; the address for clients. Raises FailedPrecondition when that cannot be."""
    if listen.startswith("unix:"):
        _remove_dead_socket(listen)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if listen.startswith("unix:"):
        if not port:
            raise FailedPrecondition(f"cannot listen on {listen}: the path is too long or taken")
        Path(listen.removeprefix("unix:")).chmod(0o600)
        return listen
    host = listen.rpartition(":")[0]
    if not port:
        raise FailedPrecondition(f"cannot listen on {listen}: the port is taken or not ours")
    return f"grpc://{host}:{port}"


def _remove_dead_socket(listen: str) -> None:
    """A socket that a killed server left would keep the next one from listening.

    Raises FailedPrecondition when a server still answers on it.
    """
    path = Path(listen.removeprefix("unix:"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise FailedPrecondition(f"cannot listen on {listen}: {error.strerror}") from None
    raise FailedPrecondition(f"cannot listen on {listen}: another server does")
