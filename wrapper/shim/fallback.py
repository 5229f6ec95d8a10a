"""The shim for machines without a C compiler: what shim.c does, in Python, 30 ms slower.

Copied to its place by install.py behind a `#!python -IS` line; imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from typing import NoReturn

HOME = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438
PR_SET_PDEATHSIG = 1
CARGO: list[int] = []
"""The process that asks, where that is not this one's parent."""


METADATA = b'"emit":"metadata"'


def plain_rustc() -> NoReturn:
    """Become the rustc that cargo asked for."""
    become(sys.argv[1:])


def become(command: list[str]) -> NoReturn:
    """Become another program."""
    # Python ignores these two, and what is ignored stays so in the next program
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        not_there(command[0], error)


def take_environment_of(shell: int) -> None:
    """Have the environment that this process's parent was started with: shells hand on no variable
    whose name they could not have."""
    if os.getppid() != shell:
        return  # it was killed, and what is our parent now is a stranger
    try:
        with open(f"/proc/{shell}/environ", "rb") as file:
            # Python can set none without a name
            pairs = [
                pair.partition(b"=")[::2]
                for pair in file.read().split(b"\0")
                if pair.find(b"=") > 0
            ]
    except OSError:
        return
    os.environb.clear()
    os.environb.update(pairs)


def not_there(program: str, error: OSError) -> NoReturn:
    """Say that a compiler cannot be started, as a shell would."""
    sys.stderr.write(f"error: cannot run {program}: {error.strerror}\n")
    sys.exit(127)


def connect() -> socket.socket:
    """A connection to the daemon. Raises OSError."""
    directory = os.open(HOME, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"/proc/self/fd/{directory}/daemon.sock")
        return connection
    finally:
        os.close(directory)


def caller() -> int:
    """The process for which this one is started."""
    return CARGO[0] if CARGO else os.getppid()


def start_failed() -> bool:
    """Whether a start failed within the last minute: start-daemon leaves a mark."""
    try:
        return time.time() - os.stat(f"{HOME}/daemon.failed").st_mtime < 60
    except OSError:
        return False


def mark_failed() -> None:
    """Have nobody try again for a minute."""
    try:
        open(f"{HOME}/daemon.failed", "w").close()
    except OSError:
        return  # it lies where nobody can write: everybody tries


def start_daemon() -> None:
    """Start it; of many started at once one stays (it holds a lock)."""
    subprocess.Popen(
        ["/bin/sh", f"{HOME}/bin/start-daemon"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def begin_daemon() -> None:
    """Have it start where it does not run; returns at once."""
    try:
        connect().close()
    except PermissionError:
        return  # another user's
    except OSError:
        if not is_starting() and not start_failed():
            start_daemon()


def is_starting() -> bool:
    """Whether `cargo distbuild` has had one start for this build."""
    return bool(os.environ.get("DISTBUILD_STARTING"))


def daemon() -> socket.socket:
    """A connection to the daemon, started if it does not run. Raises OSError."""
    try:
        return connect()
    except PermissionError:
        mark_failed()  # another user's is there, and there will be no other
        raise
    except OSError:
        if start_failed():
            raise
    begun = time.monotonic()
    patience = 1 if is_starting() else 0  # it may have been killed
    is_started = False
    while True:
        if not is_started and time.monotonic() >= begun + patience:
            start_daemon()
            is_started = True
        time.sleep(0.005)
        try:
            return connect()
        except OSError:
            if start_failed():
                raise
            if time.monotonic() > begun + 10:
                mark_failed()
                raise


def send_request(connection: socket.socket) -> None:
    """Send the call. Raises OSError."""
    strings = [b"2", b"%d" % caller(), os.getcwdb(), b"%d" % (len(sys.argv) - 1)]
    strings += [os.fsencode(argument) for argument in sys.argv[1:]]
    strings += [name + b"=" + value for name, value in os.environb.items()]
    data = b"".join(string + b"\0" for string in strings)
    connection.sendall(struct.pack("<I", len(data)) + data)


def read(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises OSError when the daemon goes away."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("the daemon went away")
        data += piece
    return data


def tell_user(text: bytes) -> None:
    """Write to cargo's own stderr, which cargo does not record, or else to ours."""
    target = 2
    try:
        parent = os.pidfd_open(caller())
        found = LIBC.syscall(PIDFD_GETFD, parent, 2, 0)
        if found >= 0:
            target = found
        elif not stat.S_ISREG(os.stat(f"/proc/{caller()}/fd/2").st_mode):
            target = os.open(f"/proc/{caller()}/fd/2", os.O_WRONLY | os.O_APPEND)
    except OSError:
        target = 2
    os.write(target, text)


def die_with_parent() -> None:
    """Run in the child: the compiler does not outlive the shim."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read_frame(connection: socket.socket) -> tuple[bytes, bytes]:
    """A frame's kind and payload. Raises OSError."""
    kind, size = struct.unpack("<cI", read(connection, 5))
    return kind, read(connection, size)


class Forwarder:
    """rustc's stderr on its way to ours and to the daemon. On trial it is held back until rustc
    has announced its metadata: all macros have run by then."""

    def __init__(self, connection: socket.socket, pattern: re.Pattern[bytes],
                 table: dict[bytes, bytes], *, on_trial: bool,
                 metadata_is_out: bool) -> None:  # fmt: skip
        self._metadata_is_out = metadata_is_out
        self.held: list[bytes] | None = [] if on_trial else None
        self._connection: socket.socket | None = connection
        self._pattern = pattern
        self._table = table

    def forward(self, line: bytes) -> None:
        """One line of rustc's."""
        is_known = METADATA in line and self._metadata_is_out
        if self._connection is not None:
            try:
                self._connection.sendall(struct.pack("<cI", b"E", len(line)) + line)
            except OSError:
                self._connection = None
        if is_known:
            return
        shown = self._pattern.sub(lambda match: self._table[match.group()], line)
        if self.held is None:
            os.write(2, shown)
        else:
            self.held.append(shown)
            if METADATA in line:
                self.release()

    def release(self) -> None:
        """Say what was held back; from now on nothing is."""
        held, self.held = self.held or [], None
        for line in held:
            os.write(2, line)


def started(command: list[bytes]) -> tuple[subprocess.Popen[bytes], list[int]]:
    """rustc, which gets the signals that we are sent, and a list of these."""
    told: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(received: int, frame: object) -> None:
        told.append(received)
        for process in running:
            process.send_signal(received)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    try:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, close_fds=False, preexec_fn=die_with_parent
        )
    except OSError as error:
        not_there(os.fsdecode(command[0]), error)
    running.append(process)
    for received in told:  # while rustc was started
        process.send_signal(received)
    return process, told


def run(
    connection: socket.socket, payload: bytes, *, on_trial: bool, metadata_is_out: bool = False
) -> NoReturn:
    """Run rustc here, its stderr copied to the daemon, and exit as it does."""
    (count,) = struct.unpack_from("<I", payload)
    strings = payload[4:].split(b"\0")[:-1]
    table = dict(zip(strings[: 2 * count : 2], strings[1 : 2 * count : 2], strict=True))
    table.pop(b"", None)
    pattern = re.compile(b"|".join(re.escape(old) for old in table) or rb"(?!)")
    command = strings[2 * count :]
    process, told = started(command)
    assert process.stderr is not None
    forwarder = Forwarder(
        connection, pattern, table, on_trial=on_trial, metadata_is_out=metadata_is_out
    )
    for line in process.stderr:
        forwarder.forward(line)
    code = process.wait()
    if on_trial and told and code != 0:  # Ctrl-C: it is not to run once more
        forwarder.release()
        exit_as(code)
    status = code << 8 if code >= 0 else -code
    try:
        connection.sendall(struct.pack("<cII", b"X", 4, status))
        kind, answer = read_frame(connection)
    except OSError:
        if forwarder.held is not None and code != 0:
            plain_rustc()
        kind, answer = b"", b""
    if forwarder.held is not None and kind in (b"T", b"H") and len(answer) >= 4:
        run(connection, answer, on_trial=kind == b"H")
    forwarder.release()
    exit_as(code)


def rustc_without_metadata() -> NoReturn:
    """rustc as cargo called it, but for what cargo has heard already."""
    process = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, close_fds=False)
    assert process.stderr is not None
    for line in process.stderr:
        if METADATA not in line:
            os.write(2, line)
    exit_as(process.wait())


def exit_as(code: int) -> NoReturn:
    """End as rustc ended; a negative code is a signal."""
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def say(kept: dict[bytes, bytes]) -> None:
    """Write what was held back on stdout and stderr."""
    for stream, kind in ((1, b"O"), (2, b"E")):
        data, kept[kind] = kept[kind], b""
        while data:
            data = data[os.write(stream, data) :]


def obey(connection: socket.socket) -> NoReturn:
    """Do what the daemon says; whatever is not understood ends in plain rustc.

    Output is held back until the exit code is known, so that a dying daemon leaves no trace.
    """
    kept = {b"O": b"", b"E": b""}
    metadata_is_out = False
    while True:
        try:
            kind, payload = read_frame(connection)
        except OSError:
            kind, payload = b"L", b""
        if kind in kept:
            kept[kind] += payload
        elif kind == b"F":
            say(kept)
            metadata_is_out = True
        elif kind == b"W":
            tell_user(payload)
        elif kind == b"X" and len(payload) == 4:
            say(kept)
            sys.exit(struct.unpack("<I", payload)[0])
        elif kind in (b"T", b"H") and len(payload) >= 4:
            is_trial = kind == b"H"
            run(connection, payload, on_trial=is_trial, metadata_is_out=metadata_is_out)
        elif metadata_is_out:
            rustc_without_metadata()
        else:
            plain_rustc()


def by_shell(option: str, rest: list[str]) -> None:
    """What comes after the options for the shell scripts (given.c): to become cargo, or the rustc
    that another process asked for."""
    if option == "--with":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        end = rest.index("--")
        for name, _, value in (pair.partition("=") for pair in rest[:end]):
            os.environ[name] = value
        become(rest[end + 1 :])
    CARGO.append(int(rest[0]))
    sys.argv[1:] = rest[1:]


def main() -> None:
    """Ask the daemon; without one, rustc."""
    if len(sys.argv) < 2:
        sys.stderr.write("usage: set RUSTC_WRAPPER to this program; cargo gives it the rustc\n")
        sys.exit(2)
    if sys.argv[1] in ("--from-shell", "--with"):
        take_environment_of(int(sys.argv[2]))
        by_shell(sys.argv[1], sys.argv[3:])
    if "CARGO_CRATE_NAME" not in os.environ:
        # no unit of cargo's: it asks the compiler what it can do, and has units for us afterwards
        begin_daemon()
        plain_rustc()
    try:
        connection = daemon()
        send_request(connection)
    except OSError:
        plain_rustc()
    obey(connection)


if __name__ == "__main__":
    main()
