"""The shim for machines without a C compiler: what shim.c does, in Python, 30 ms slower.

Copied to its place by install.py behind a `#!python -IS` line; imports the standard library alone.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import NoReturn

HOME = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def connect() -> socket.socket:
    """A connection to the daemon. Raises OSError."""
    directory = os.open(HOME, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"/proc/self/fd/{directory}/daemon.sock")
        return connection
    finally:
        os.close(directory)


def daemon() -> socket.socket:
    """A connection to the daemon, started if it does not run. Raises OSError."""
    try:
        return connect()
    except OSError:
        subprocess.Popen(
            ["/bin/sh", f"{HOME}/bin/start-daemon"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 10
    while True:
        time.sleep(0.02)
        try:
            return connect()
        except OSError:
            if time.monotonic() > deadline:
                raise


def send_request(connection: socket.socket) -> None:
    strings = [b"1", b"%d" % os.getppid(), os.getcwdb(), b"%d" % (len(sys.argv) - 1)]
    strings += [os.fsencode(argument) for argument in sys.argv[1:]]
    strings += [name + b"=" + value for name, value in os.environb.items()]
    data = b"".join(string + b"\0" for string in strings)
    connection.sendall(struct.pack("<I", len(data)) + data)


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("the daemon went away")
        data += piece
    return data


def run(connection: socket.socket, payload: bytes) -> NoReturn:
    """Run rustc here, its stderr copied to the daemon, and exit as it does."""
    (count,) = struct.unpack_from("<I", payload)
    strings = payload[4:].split(b"\0")[:-1]
    pairs = list(zip(strings[: 2 * count : 2], strings[1 : 2 * count : 2], strict=True))
    process = subprocess.Popen(
        strings[2 * count :], stderr=subprocess.PIPE, close_fds=False, bufsize=0
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, frame: process.send_signal(received))
    alive = True
    assert process.stderr is not None
    for line in process.stderr:
        if alive:
            try:
                connection.sendall(struct.pack("<cI", b"E", len(line)) + line)
            except OSError:
                alive = False
        for old, new in pairs:
            line = line.replace(old, new)
        os.write(2, line)
    code = process.wait()
    status = code << 8 if code >= 0 else -code
    try:
        connection.sendall(struct.pack("<cII", b"X", 4, status))
        connection.recv(1)
    except OSError:
        alive = False
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def obey(connection: socket.socket) -> None:
    """Do what the daemon says; returns when rustc is to be run as if there were no daemon."""
    written = False
    while True:
        try:
            kind, size = struct.unpack("<cI", read(connection, 5))
            payload = read(connection, size)
        except OSError:
            if written:
                raise
            return
        if kind == b"O" or kind == b"E":
            written = True
            os.write(1 if kind == b"O" else 2, payload)
        elif kind == b"W":
            os.write(2, payload)
        elif kind == b"X":
            sys.exit(struct.unpack("<I", payload)[0])
        elif kind == b"T":
            run(connection, payload)
        else:
            return


def main() -> None:
    try:
        connection = daemon()
        send_request(connection)
    except OSError:
        connection = None
    if connection is not None:
        obey(connection)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
