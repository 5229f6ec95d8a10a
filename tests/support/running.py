"""Start the project's programs as a user would, and stop them by their process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass
class RunningServer:
    """A `distbuild serve` and its address."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path

    @property
    def target(self) -> str:
        """HOST:PORT, as gRPC wants it."""
        return self.url.removeprefix("grpc://")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@contextlib.contextmanager
def running_server(
    data_dir: Path,
    *options: str,
    listen: str = "127.0.0.1:0",
    command: str = "serve",
    prefix: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """`distbuild serve`, ready; with all its workers gone afterwards. `prefix`: see `Machine`."""
    words = command.split()
    process = subprocess.Popen(
        [*prefix, BIN / "distbuild", *words, "--listen", listen, "--data-dir", data_dir, *options],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"distbuild {command} ended with {process.wait(START_SECONDS)}"
        url = next(word for word in line.split() if word.startswith(("grpc://", "unix:")))
        yield RunningServer(process=process, url=url, data_dir=data_dir)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def running_worker(
    name: str,
    server: str,
    directory: Path,
    port: int,
    *,
    prefix: Sequence[str] = (),
    slots: int = 1,
    options: Sequence[str] = (),
) -> Iterator[subprocess.Popen[str]]:
    """`distbuild worker run`, stopped by a drain that must end well."""
    process = subprocess.Popen(
        [*prefix, BIN / "distbuild", "worker", "run", "--id", name, "--port", str(port),
         "--slots", str(slots), "--server", server, "--cache-dir", directory / name,
         *options],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert name in process.stdout.readline()
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
