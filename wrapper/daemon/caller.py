"""What the kernel says of a program at the other end of a Unix socket."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator

_CREDENTIALS = struct.Struct("iII")
_UMASK = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)
_OF_THE_KERNEL = re.compile(r"/(proc|sys|dev|run)(/.*)?")


def process_of(connection: socket.socket) -> int:
    """Its process id; 0 where it is in a container that we do not see into."""
    size = _CREDENTIALS.size
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = _CREDENTIALS.unpack(found)[0]
    return pid


def umask_of(process: int) -> int | None:
    """The mode bits that its files do not get, where the kernel says so."""
    try:
        with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as file:
            match = _UMASK.search(file.read())
    except OSError:
        return None
    return int(match.group(1), 8) if match else None


def sees_the_same(process: int) -> bool:
    """Whether paths lead it where they lead us; False where that is not known.

    A container has other files under the same names, and may share our socket's directory.
    """
    try:
        if _root("self") != _root(process):
            return False
        own, its = (os.stat(f"/proc/{each}/ns/mnt").st_ino for each in ("self", process))
        return own == its or set(_mounts("self")) == set(_mounts(process))
    except OSError:
        return False


def _root(process: int | str) -> tuple[int, int]:
    st = os.stat(f"/proc/{process}/root")
    return st.st_dev, st.st_ino


def _mounts(process: int | str) -> Iterator[tuple[str, str, str]]:
    """Device, directory in it and place of what is mounted."""
    with open(f"/proc/{process}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, _, device, directory, place, *_ = line.split(" ")
            if not _OF_THE_KERNEL.fullmatch(place):
                yield device, directory, place
