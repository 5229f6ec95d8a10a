"""What the command line says to what it cannot take."""

from __future__ import annotations

import subprocess
from pathlib import Path

from running import BIN


def test_a_toolchain_in_the_wrong_place(tmp_path: Path) -> None:
    command = [str(BIN / "cargo-distbuild"), "distbuild", "+nightly", "build", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    said = "error: distbuild: rustup takes a toolchain first: cargo +nightly distbuild build -q\n"
    assert done.stderr == said
