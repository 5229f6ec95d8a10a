"""The command `distbuild` as a user types it: what it says, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from running import running_server

from tests.cli.commands import distbuild

pytestmark = pytest.mark.timeout(180)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2 and one line on stderr that holds the words."""
    assert done.returncode == 2, done
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert all(word in lines[0] for word in words), lines
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--listen", "nowhere"], ["--listen", "nowhere"]),
        (["serve", "--listen", "127.0.0.1:99999"], ["--listen"]),
        (["serve", "--workers", "-1"], ["--workers"]),
        (["serve", "--sandbox", "chroot"], ["bubblewrap", "none"]),
        (["serve", "--max-size", "many"], ["--max-size"]),
        (["serve", "--unknown"], ["--unknown"]),
        (["dance"], ["dance"]),
        ([], ["COMMAND"]),
        (["worker", "run", "--property", "x", "--server", "grpc://127.0.0.1:1"], ["NAME=VALUE"]),
        (["worker", "run", "--server", "ftp://x"], ["ftp://x", "grpc://HOST:PORT"]),
    ],
)
def test_wrong_option(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    refused(distbuild(*arguments, XDG_CACHE_HOME=str(tmp_path)), *words)


def test_wrong_variable() -> None:
    refused(distbuild("serve", DISTBUILD_WORKERS="x"), "DISTBUILD_WORKERS=x")


def test_port_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = distbuild("serve", "--listen", listen, "--data-dir", tmp_path, "--workers", "0")
    refused(done, listen, "taken")


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = distbuild("serve", "--listen", "127.0.0.1:0", "--data-dir", file / "data")
    refused(done, str(file))


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs /proc")
def test_directory_that_cannot_be_written() -> None:
    """/proc takes no files, not even root's."""
    done = distbuild("serve", "--listen", "127.0.0.1:0", "--data-dir", "/proc/distbuild")
    refused(done, "/proc/distbuild")


def test_directory_in_use(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "0"):
        done = distbuild(
            "serve", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data", "--workers", "0"
        )
    refused(done, str(tmp_path / "data"))


def test_other_machines_are_refused(tmp_path: Path) -> None:
    done = distbuild("serve", "--listen", "0.0.0.0:0", "--data-dir", tmp_path)
    refused(done, "--insecure")


def test_no_sandbox_is_said(tmp_path: Path) -> None:
    """Without bubblewrap nothing runs unsandboxed by itself."""
    done = distbuild(
        "serve", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data", "--workers", "1",
        PATH=str(tmp_path),
    )  # fmt: skip
    refused(done, "bubblewrap", "--sandbox none")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_drains(number: signal.Signals, tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "1", "--sandbox", "none") as server:
        assert server.stop(number) == 0


def test_unix_socket_after_a_kill(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path / 's'}"
    with running_server(tmp_path / "data", "--workers", "0", listen=listen) as server:
        assert server.url == listen
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    with running_server(tmp_path / "data", "--workers", "0", listen=listen) as server:
        assert server.url == listen


def test_workers_do_not_outlive_a_killed_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "1", "--sandbox", "none") as server:
        pid = server.process.pid
        worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        server.stop(signal.SIGKILL)
        deadline = 30.0
        pidfd = os.pidfd_open(worker)
        try:
            assert select.select([pidfd], [], [], deadline)[0], "the worker still runs"
        finally:
            os.close(pidfd)
