"""A question to the daemon, if it runs. Standard library alone, and quick: every build asks."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

from wrapper.daemon.questions import SLOTS
from wrapper.home import Home

_TIMEOUT = 2.0
_FRAME = struct.Struct("<cI")


def slots(home: Home, environment: Mapping[str, str]) -> int:
    """How many units the configured server's workers compile at a time; 0 when nobody knows."""
    try:
        answer = _ask(home, SLOTS, environment)
    except (OSError, ValueError, EOFError):
        return 0
    return int(answer) if answer.isdigit() else 0


def _ask(home: Home, question: str, environment: Mapping[str, str]) -> bytes:
    directory = os.open(home.path, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(f"/proc/self/fd/{directory}/daemon.sock")
            strings = ["2", str(os.getpid()), os.getcwd(), "1", question]
            strings += [f"{name}={value}" for name, value in environment.items()]
            data = b"".join(os.fsencode(text) + b"\0" for text in strings)
            connection.sendall(struct.pack("<I", len(data)) + data)
            with connection.makefile("rb") as frames:
                return _output(frames.read())
    finally:
        os.close(directory)


def _output(data: bytes) -> bytes:
    """What the first frame says, if it is output. Raises ValueError and struct.error."""
    if len(data) < _FRAME.size:
        raise EOFError
    kind, size = _FRAME.unpack_from(data)
    return data[_FRAME.size : _FRAME.size + size] if kind == b"O" else b""
