"""`filters.py PROGRAM ARGUMENT…`: a program that the kernel lets install no filters."""

from __future__ import annotations

import ctypes
import os
import sys


def no_seccomp() -> None:
    """Have the kernel refuse further filters, as a container may: a filter that says EPERM."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
    rows = [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number),
        (0x06, 0, 0, 0x00050001),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    data = b"".join(
        code.to_bytes(2, "little") + bytes([yes, no]) + value.to_bytes(4, "little")
        for code, yes, no, value in rows
    )
    buffer = ctypes.create_string_buffer(data, len(data))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(rows), ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(program)) == 0


if __name__ == "__main__":
    no_seccomp()
    os.execv(sys.argv[1], sys.argv[1:])
