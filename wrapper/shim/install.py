"""Install the shim and the launcher once: as they were compiled when the package was installed
(hatch_build.py), else compiled now, and where no compiler is the slower shim in Python, and no
launcher."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wrapper.home import Home

_COMPILE_TIMEOUT = 60.0
_HERE = Path(__file__).parent


BUILT = _HERE / "built"
_SHIM = ("shim.c", "daemon.c", "daemon.h")
_LAUNCHER = ("launcher.c", "watch.c", "daemon.c", "daemon.h", "watch.h")


def ensure_shim(home: Home) -> Path:
    """The shim's path, installing what is missing or of another version. Raises OSError.

    The file is replaced only when its source changed: cargo hashes the wrapper's path, size and
    modification time, and asks rustc everything anew when they differ.
    """
    write_start_script(home)
    _ensure(home.shim, _SHIM, _HERE / "fallback.py")
    # cargo-distbuild-wrapper takes a stamp that is newer than itself for a current shim
    _stamp(home.shim).touch()
    return home.shim


def ensure_launcher(home: Home) -> None:
    """Have what stands in for build scripts, where a C compiler is. Raises OSError.

    Units that are compiled before it is there run their build scripts as ever.
    """
    _ensure(home.launcher, _LAUNCHER, None)


def write_start_script(home: Home) -> None:
    """Have the script that starts the daemon, and the directories for all. Raises OSError."""
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.shim.parent.mkdir(exist_ok=True)
    _write_if_changed(home.start_daemon, _start_script(home))


def _stamp(program: Path) -> Path:
    return program.with_suffix(".version")


def _ensure(program: Path, names: Sequence[str], stand_in: Path | None) -> None:
    """Have a program of these sources, or its stand-in in Python."""
    texts = [(_HERE / name).read_bytes() for name in names]
    texts += [stand_in.read_bytes()] if stand_in else []
    version = hashlib.sha256(b"\0".join(texts)).hexdigest()
    stamp = _stamp(program)
    is_there = program.exists() or stand_in is None
    if is_there and stamp.exists() and stamp.read_text() == version:
        return
    temporary = program.with_name(f".{program.name}-{os.getpid()}")
    if _take_built(program.name, names, temporary) or _compile(temporary, names):
        temporary.chmod(0o755)
        os.replace(temporary, program)
    elif stand_in is not None:
        temporary.write_bytes(f"#!{sys.executable} -IS\n".encode() + texts[-1])
        temporary.chmod(0o755)
        os.replace(temporary, program)
    else:
        program.unlink(missing_ok=True)
    stamp.write_text(version)


def build_programs(directory: Path) -> None:
    """Compile both for `_take_built`, where a C compiler is. Raises OSError."""
    directory.mkdir(exist_ok=True)
    for name, sources in (("rustc-shim", _SHIM), ("build-script-launcher", _LAUNCHER)):
        for old in directory.glob(f"{name}-*"):
            old.unlink()
        _compile(directory / _built_name(name, sources), sources)


def _built_name(name: str, sources: Sequence[str]) -> str:
    texts = b"\0".join((_HERE / source).read_bytes() for source in sources)
    return f"{name}-{hashlib.sha256(texts).hexdigest()[:16]}"


def _take_built(name: str, sources: Sequence[str], output: Path) -> bool:
    """Copy the program of these very sources, if it was built and runs on this machine."""
    built = BUILT / _built_name(name, sources)
    try:
        shutil.copyfile(built, output)
        output.chmod(0o755)
        # without arguments they say what they are; another code says that they cannot start
        done = subprocess.run([output], capture_output=True, timeout=_COMPILE_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode in (1, 2)


def _compile(output: Path, sources: Sequence[str]) -> bool:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return False
    files = [str(_HERE / name) for name in sources if name.endswith(".c")]
    command = [compiler, "-O1", "-o", str(output), *files]
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
        # where the build is: there rustup may have another compiler
        f"DISTBUILD_STARTED_IN=$PWD\nexport DISTBUILD_STARTED_IN\n"
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
