"""The real server, started for a measurement."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_STOP_SECONDS = 60.0
_TICKS_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class Server:
    """A `distbuild serve`: its address as gRPC wants it, and its process."""

    target: str
    pid: int

    def resident_bytes(self) -> int:
        """Its memory now, without its workers'."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ValueError(f"process {self.pid} has no memory")

    def cpu_seconds(self) -> float:
        """What it has used so far, without its workers."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


@contextlib.contextmanager
def serving(directory: Path, *, workers: int = 0, sandbox: str = "none") -> Iterator[Server]:
    """`distbuild serve` with that many workers, until the block ends."""
    command = [
        sys.executable, "-m", "server.cli.main", "serve", "--listen", "127.0.0.1:0",
        "--data-dir", str(directory), "--workers", str(workers), "--sandbox", sandbox,
    ]  # fmt: skip
    log = directory.with_suffix(".log")
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        url = next(word for word in line.split() if word.startswith("grpc://"))
        try:
            yield Server(url.removeprefix("grpc://"), process.pid)
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)
