"""Who stops `cargo distbuild` stops cargo, and what cargo runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from developers import Developer, developer, write
from running import BIN

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

SLEEPS = """fn main() {
    std::fs::write("pid", std::process::id().to_string()).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(300));
}"""
FILES = {
    "Cargo.toml": '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n',
    "src/main.rs": SLEEPS,
}
LOOP = f"for i in 1 2; do {BIN / 'cargo-distbuild'} run; done"


@pytest.fixture(params=["a shell", "a program"])
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Developer]:
    """By what cargo is started: the first build's is the whole program, and so with settings."""
    with developer(tmp_path / "dev", None) as dev:
        write(tmp_path / "w", FILES)
        dev.run("cargo", "distbuild", "build", cwd=tmp_path / "w")
        if request.param == "a program":
            dev.extra = {"DISTBUILD_JOBS": "2"}
        yield dev


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _running(
    dev: Developer, workspace: Path, *command: str | Path
) -> tuple[subprocess.Popen[bytes], int]:
    """A command, and the number of the program's process that it has started."""
    process = subprocess.Popen(
        command, cwd=workspace, env=dev.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    said = workspace / "pid"
    _until(lambda: said.exists() and said.read_text() != "")
    return process, int(said.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_for_the_process_alone(
    started: Developer, tmp_path: Path, number: signal.Signals
) -> None:
    process, program = _running(started, tmp_path / "w", BIN / "cargo-distbuild", "run")
    process.send_signal(number)
    assert process.wait(60) in (-number, 128 + number)
    _until(lambda: not os.path.exists(f"/proc/{program}"))


def test_ctrl_c_ends_a_loop(started: Developer, tmp_path: Path) -> None:
    """A shell goes on after a program that ended by itself, and not after one that a signal did."""
    process, program = _running(started, tmp_path / "w", "bash", "-c", LOOP)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    _until(lambda: not os.path.exists(f"/proc/{program}"))
