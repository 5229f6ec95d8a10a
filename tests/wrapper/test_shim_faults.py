"""Both shims with daemons that are not there, fail, or have to be started first."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rights import WITHOUT_ALL_RIGHTS

import wrapper.shim

SOURCES = Path(wrapper.shim.__file__).parent
SHIM = (SOURCES / "shim.c", SOURCES / "daemon.c", SOURCES / "given.c")
PLAIN = [sys.executable, "-IS", "-c", "print('plain rustc')"]
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Done:
    """How a shim ended."""

    code: int
    stdout: bytes
    stderr: bytes


RUSTC_RAN = Done(0, b"plain rustc\n", b"")


@pytest.fixture(scope="session", params=["c", "python"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("shim") / "rustc-shim"
    if request.param == "python":
        source = (SOURCES / "fallback.py").read_bytes()
        path.write_bytes(f"#!{sys.executable} -IS\n".encode() + source)
        path.chmod(0o755)
    else:
        subprocess.run(["cc", "-o", path, *SHIM], check=True, timeout=SECONDS)
    return path


@pytest.fixture(autouse=True)
def _of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """cargo says which crate a call is for."""
    monkeypatch.setenv("CARGO_CRATE_NAME", "c")


@pytest.fixture
def home(program: Path, tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    shutil.copy2(program, tmp_path / "bin" / "rustc-shim")
    return tmp_path


def run(home: Path, *command: str, pass_fds: tuple[int, ...] = ()) -> Done:
    """Run the shim for a rustc command."""
    done = subprocess.run(
        [home / "bin" / "rustc-shim", *command], pass_fds=pass_fds, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def daemon(home: Path, answer: bytes | None) -> Iterator[None]:
    """Answers one call with some bytes and goes; None: goes without reading the call."""
    server = socket.socket(socket.AF_UNIX)
    with contextlib.chdir(home):
        server.bind("daemon.sock")
    server.listen()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            if answer is None:
                return
            (size,) = struct.unpack("<I", connection.recv(4, socket.MSG_WAITALL))
            connection.recv(size, socket.MSG_WAITALL)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(SECONDS)
        server.close()


def frame(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"E\x05",
        b"E" + struct.pack("<I", 100) + b"part",
        b"X" + struct.pack("<I", 4),
        frame(b"X", b"12345"),
        frame(b"?", b"abc"),
        frame(b"T", b""),
    ],
    ids=["nothing", "half-head", "half-payload", "head", "long-code", "unknown", "short-run"],
)
def test_a_daemon_that_fails_before_any_output_is_not_missed(home: Path, answer: bytes) -> None:
    with daemon(home, answer):
        assert run(home, *PLAIN) == RUSTC_RAN


def test_a_daemon_that_goes_without_reading(home: Path) -> None:
    """The request is larger than the socket's buffer: writing it meets a broken pipe."""
    with daemon(home, None):
        assert run(home, *PLAIN, *["x" * 100_000] * 10) == RUSTC_RAN


@pytest.mark.parametrize("kind", [b"O", b"E"])
def test_a_daemon_that_dies_after_output_leaves_no_trace(home: Path, kind: bytes) -> None:
    """Half of a result is held back: cargo sees all of rustc's and nothing else."""
    with daemon(home, frame(kind, b"half\n") + kind):
        assert run(home, *PLAIN) == RUSTC_RAN


def test_without_any_daemon_rustc_runs(home: Path) -> None:
    with contextlib.chdir(home), socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind("daemon.sock")
    assert run(home, *PLAIN) == RUSTC_RAN


def test_another_users_daemon_is_not_waited_for(home: Path) -> None:
    """Nor is one of one's own started in its place."""
    (home / "bin" / "start-daemon").write_text(f"touch '{home}/started'")
    with contextlib.chdir(home), socket.socket(socket.AF_UNIX) as others:
        others.bind("daemon.sock")
        others.listen()
        (home / "daemon.sock").chmod(0)
        done = subprocess.run(
            [*WITHOUT_ALL_RIGHTS, home / "bin" / "rustc-shim", *PLAIN], capture_output=True,
            stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert Done(done.returncode, done.stdout, done.stderr) == RUSTC_RAN
    assert not (home / "started").exists()
    assert (home / "daemon.failed").exists()  # by which the build says so


START = """cd '{home}' && exec {python} -IS -c '
import os, socket
own = "/proc/self/fd/"
numbers = [int(fd) for fd in os.listdir(own) if os.path.exists(own + fd)]
open_files = {{number: os.readlink(own + str(number)) for number in numbers}}
server = socket.socket(socket.AF_UNIX); server.bind("daemon.sock"); server.listen()
open("daemon.txt", "w").write(repr((os.getsid(0), os.getppid(), open_files)))
connection, _ = server.accept()
size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "little")
connection.recv(size, socket.MSG_WAITALL)
connection.sendall(b"X" + (4).to_bytes(4, "little") + (42).to_bytes(4, "little"))
'
"""


def test_the_daemon_is_started_with_nothing_of_the_build_in_it(home: Path) -> None:
    (home / "bin" / "start-daemon").write_text(START.format(home=home, python=sys.executable))
    read, write = os.pipe()  # like cargo's jobserver: cargo waits for its end
    done = run(home, *PLAIN, pass_fds=(read, write))
    os.close(read)
    os.close(write)
    assert done == Done(42, b"", b"")
    session, _, open_files = ast.literal_eval((home / "daemon.txt").read_text())
    assert session != os.getsid(0)
    assert open_files == {0: "/dev/null", 1: "/dev/null", 2: "/dev/null"}


def test_a_probe_begins_the_daemon_and_waits_for_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CARGO_CRATE_NAME")
    (home / "bin" / "start-daemon").write_text(
        f"cd '{home}'; until [ -e go ]; do sleep 0.01; done; echo $$ > started.partial\n"
        "mv started.partial started\n"
    )
    assert run(home, *PLAIN) == RUSTC_RAN
    (home / "go").touch()
    deadline = time.monotonic() + SECONDS
    while not (home / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_daemon_that_cargo_distbuild_started_is_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And started after all when it does not come: it may have been killed."""
    monkeypatch.setenv("DISTBUILD_STARTING", "1")
    start = START.format(home=home, python=sys.executable)
    (home / "bin" / "start-daemon").write_text(f"echo >> '{home}/starts'; {start}")
    monkeypatch.delenv("CARGO_CRATE_NAME")
    assert run(home, *PLAIN) == RUSTC_RAN
    monkeypatch.setenv("CARGO_CRATE_NAME", "c")
    assert run(home, *PLAIN) == Done(42, b"", b"")
    assert (home / "starts").read_text() == "\n", "not by the probe"


def test_called_with_nothing(home: Path) -> None:
    done = run(home)
    assert done.code == 2
    assert b"RUSTC_WRAPPER" in done.stderr


def test_a_compiler_that_is_not_there(home: Path) -> None:
    with daemon(home, frame(b"L", b"")):
        done = run(home, "/nonexistent/rustc", "-vV")
    assert done.code == 127
    assert b"/nonexistent/rustc" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_compiler_that_is_not_there_under_a_tracked_run(home: Path) -> None:
    payload = struct.pack("<I", 0) + b"/nonexistent/rustc\0-vV\0"
    with daemon(home, frame(b"T", payload)):
        done = run(home, "/nonexistent/rustc", "-vV")
    assert done.code == 127
    assert b"/nonexistent/rustc" in done.stderr
    assert b"Traceback" not in done.stderr
