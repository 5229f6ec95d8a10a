"""An empty network for the actions of one slot, one after the other."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_OWN = "/proc/thread-self/ns/net"
_STATE = "/proc/thread-self/net/"
_COUNTERS = ("dev", "snmp", "snmp6")


def can_come_back() -> bool:
    """Whether this process may enter its own network, and so come back from another one.

    Root of a user namespace may not where its network is that of the machine.
    """
    home = os.open(_OWN, os.O_RDONLY)
    try:
        _enter(home)
    except OSError:
        return False
    finally:
        os.close(home)
    return True


class EmptyNetwork:
    """A network namespace with a loopback device alone. For root, where `can_come_back`.

    Making one takes the kernel a millisecond, and removing it as much again, so an action gets the
    former one's, if that left no trace in it: no open socket, no packet on the loopback device,
    nothing counted. Otherwise it is made anew. Nothing in it may run while it is entered.
    """

    def __init__(self) -> None:
        self._release: weakref.finalize[[int], EmptyNetwork] | None = None
        self._handle = -1
        self._unused = b""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread starts in the block is in the network. Raises OSError.

        The block must not await: whatever ran meanwhile would be in it too.
        """
        home = os.open(_OWN, os.O_RDONLY)
        try:
            try:
                if self._handle >= 0:
                    _enter(self._handle)
                if self._handle < 0 or _traces() != self._unused:
                    self._make()
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)

    def _make(self) -> None:
        if self._release is not None:
            self._release()
        self._handle, self._release = -1, None
        _check(_libc().unshare(_CLONE_NEWNET))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
            fcntl.ioctl(some, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
        self._unused = _traces()
        self._handle = os.open(_OWN, os.O_RDONLY)
        self._release = weakref.finalize(self, os.close, self._handle)


def _traces() -> bytes:
    """What whoever used this thread's network changed in it."""
    open_sockets, _, _ = _state("sockstat").partition(b"\n")
    return b"".join([open_sockets, *map(_state, _COUNTERS)])


def _state(name: str) -> bytes:
    # Not by a file object: this is done before every action.
    try:
        handle = os.open(_STATE + name, os.O_RDONLY)
    except FileNotFoundError:
        return b""  # snmp6, where the kernel has no IPv6
    try:
        return b"".join(iter(partial(os.read, handle, 16384), b""))
    finally:
        os.close(handle)


def _enter(handle: int) -> None:
    _check(_libc().setns(handle, _CLONE_NEWNET))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
