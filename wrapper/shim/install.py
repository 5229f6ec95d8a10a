"""Install the shim once: compiled from shim.c, or the slower Python one where no compiler is."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from wrapper.home import Home

_COMPILE_TIMEOUT = 60.0
_HERE = Path(__file__).parent


def ensure_shim(home: Home) -> Path:
    """The shim's path, installing what is missing or of another version. Raises OSError.

    The file is replaced only when its source changed: cargo hashes the wrapper's path, size and
    modification time, and asks rustc everything anew when they differ.
    """
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.shim.parent.mkdir(exist_ok=True)
    _write_if_changed(home.start_daemon, _start_script(home))
    source = (_HERE / "shim.c").read_bytes()
    fallback = (_HERE / "fallback.py").read_bytes()
    version = hashlib.sha256(source + fallback).hexdigest()
    stamp = home.shim.with_suffix(".version")
    if home.shim.exists() and stamp.exists() and stamp.read_text() == version:
        # cargo-distbuild-wrapper takes a stamp that is newer than itself for a current shim
        stamp.touch()
        return home.shim
    temporary = home.shim.with_name(f".shim-{os.getpid()}")
    if not _compile(temporary):
        python = f"#!{sys.executable} -IS\n".encode()
        temporary.write_bytes(python + fallback)
    temporary.chmod(0o755)
    os.replace(temporary, home.shim)
    stamp.write_text(version)
    return home.shim


def _compile(output: Path) -> bool:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return False
    command = [compiler, "-O2", "-o", str(output), str(_HERE / "shim.c")]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_COMPILE_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _start_script(home: Home) -> bytes:
    # the package may live beside the working directory and not be installed
    root = shlex.quote(str(_HERE.parent.parent))
    home_path = shlex.quote(str(home.path))
    return (
        f"#!/bin/sh\nPYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}\nexport PYTHONPATH\n"
        f"cd / && {shlex.quote(sys.executable)} -m wrapper.daemon {home_path} "
        # a daemon that was killed had started
        f"|| [ $? -gt 128 ] || : > {home_path}/daemon.failed\n"
    ).encode()


def _write_if_changed(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
