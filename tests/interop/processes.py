"""Start, await and end programs: each by its own pid, each with a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

STOP_SECONDS = 20.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program left behind: exit status and both outputs as text."""

    arguments: Sequence[str]
    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def ok(self) -> Finished:
        """Fails the test, showing everything, unless the program ended with status 0."""
        return self.expect(0)

    def expect(self, status: int) -> Finished:
        if self.status != status:
            command = " ".join(self.arguments)
            pytest.fail(f"{command}\nended with {self.status}, not {status}\n{self.output}")
        return self


def client_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment: the user's own settings of a client must not decide a test."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        **(extra or {}),
    }


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 100.0,
) -> Finished:
    """Runs a program to its end; past `timeout` seconds its whole process group is killed.

    A group of its own, because clients start helpers (bst starts buildbox-casd) that would
    otherwise outlive a client that was killed.
    """
    words = [str(word) for word in arguments]
    with subprocess.Popen(
        words, cwd=cwd, env=dict(environment), text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                pytest.fail(f"{' '.join(words)}\nstill ran after {timeout} s\n{stdout}{stderr}")
            raise
    return Finished(arguments=words, status=process.returncode, stdout=stdout, stderr=stderr)


@contextmanager
def service(
    arguments: Sequence[str | Path],
    *,
    log: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str],
    timeout: float = 60.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Keeps a server running inside the block; `ready` is polled until it says so.

    Both outputs go to `log`, whose end is shown when the server does not come up.
    """
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [str(word) for word in arguments], env=dict(environment),
            stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _await_ready(process, log, ready, timeout)
        yield process
    finally:
        stop(process)


def _await_ready(
    process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool], timeout: float
) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            state = f"ended with {process.returncode}" if process.returncode else "is not ready"
            pytest.fail(f"{process.args!r} {state}\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(POLL_SECONDS)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends one process by its pid: politely first, by force when it does not listen."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
