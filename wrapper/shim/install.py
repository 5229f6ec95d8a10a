"""Install the shim and the launcher once: as they were compiled when the package was installed
(hatch_build.py), else compiled now, and where no compiler is the slower shim in Python, and no
launcher."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import sys
from pathlib import Path

from remote_apis.c_programs import CProgram
from wrapper.home import Home
from wrapper.wording import trouble

_HERE = Path(__file__).parent

BUILT = _HERE / "built"
_SHIM = CProgram(
    name="rustc-shim",
    directory=_HERE,
    sources=("shim.c", "daemon.c", "given.c", "daemon.h", "given.h"),
)
_LAUNCHER = CProgram(
    name="build-script-launcher",
    directory=_HERE,
    sources=("launcher.c", "watch.c", "daemon.c", "daemon.h", "watch.h"),
)

_ASKED = CProgram(
    name="asked-variables.so", directory=_HERE, sources=("asked.c", "watch.h"), is_library=True
)
_CACHE = b"""Signature: 8a477f597d28d172789f06886806bc55
# All of this directory is cargo-distbuild's, and may be removed.
"""


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


def startable_shim(home: Home) -> Path:
    """The same, of a shim that can be started: on a file system mounted noexec none can. Raises
    OSError."""
    shim = ensure_shim(home)
    if not os.access(shim, os.X_OK):
        what = "no program starts there (mounted noexec?): set DISTBUILD_HOME to another place"
        raise PermissionError(errno.EACCES, what, str(shim))
    return shim


def without_it(error: OSError, doing: str) -> str:
    """What is said where the shim cannot be had, and cargo goes on `doing` its work."""
    return f"warning: distbuild: {trouble(error)}; {doing} without it"


def ensure_launcher(home: Home) -> None:
    """Have what stands in for build scripts, and watches, where a C compiler is. Raises OSError.

    Units that are compiled before it is there run their build scripts as ever.
    """
    _ensure(home.launcher, _LAUNCHER, None)
    _ensure(home.asked_variables, _ASKED, None)


def has_built_launcher() -> bool:
    """Whether it came compiled with the package, and takes no time to install."""
    return _LAUNCHER.is_built(BUILT)


def write_start_script(home: Home) -> None:
    """Have the script that starts the daemon, and the directories for all. Raises OSError."""
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.shim.parent.mkdir(exist_ok=True)
    # it may lie in a workspace, where nothing in it is a source
    _write_if_changed(home.path / "CACHEDIR.TAG", _CACHE)
    _write_if_changed(home.path / ".gitignore", b"*\n")
    if _write_if_changed(home.start_daemon, _start_script(home)):
        home.daemon_failed.unlink(missing_ok=True)  # another may do better


def _stamp(program: Path) -> Path:
    return program.with_suffix(".version")


def _ensure(program: Path, source: CProgram, stand_in: Path | None) -> None:
    """Have a program, or its stand-in in Python."""
    texts = source.texts() + ([stand_in.read_bytes()] if stand_in else [])
    version = hashlib.sha256(b"\0".join(texts)).hexdigest()
    stamp = _stamp(program)
    is_there = program.exists() or stand_in is None
    if is_there and stamp.exists() and stamp.read_text() == version:
        return
    temporary = program.with_name(f".{program.name}-{os.getpid()}")
    if source.take(BUILT, temporary):
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
    """Compile them for later, where a C compiler is. Raises OSError."""
    for program in (_SHIM, _LAUNCHER, _ASKED):
        program.build(directory)


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
        f"|| [ $? -gt 128 ] || : > {shlex.quote(str(home.daemon_failed))}\n"
    ).encode()


def _write_if_changed(path: Path, content: bytes) -> bool:
    if path.exists() and path.read_bytes() == content:
        return False
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return True
