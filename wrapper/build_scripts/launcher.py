"""Put the launcher (wrapper/shim/launcher.c) in the place of a build script that was compiled."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from wrapper.home import Home
from wrapper.result_checks import Unit
from wrapper.roots import Roots
from wrapper.rustc.outputs import output_names, unit_kind

_MARK = b"distbld1"


def real_name(name: str) -> str:
    """The name under which the build script itself lies beside its launcher.

    No hidden one: what saves target directories for later may leave such files out.
    """
    return f"{name}.real"


def trailer(home: Home, name: str, workspace: str) -> bytes:
    """How a launcher's file ends that stands for the script of that name beside it."""
    end = b"".join(os.fsencode(text) + b"\0" for text in (home.path, name, workspace))
    return end + len(end).to_bytes(4, "little") + _MARK


def install_launchers(home: Home, unit: Unit) -> dict[str, str]:
    """Where a unit is a build script, have the launcher stand in its place.

    Returns the path of each program that was moved, by the name that it had. There is none where
    no C compiler was to make a launcher. Raises OSError.
    """
    if unit_kind(unit.invocation) != "build-script":
        return {}
    try:
        launcher = home.launcher.read_bytes()
    except FileNotFoundError:
        return {}
    names = [name for name in output_names(unit.invocation) if "." not in name]
    return {name: _install(home, launcher, unit.roots, name) for name in names}


def _install(home: Home, launcher: bytes, roots: Roots, name: str) -> str:
    program = os.path.join(roots.out_dir, name)
    real = os.path.join(roots.out_dir, real_name(name))
    temporary = Path(roots.out_dir, f".distbuild-launcher-{os.getpid()}")
    temporary.write_bytes(launcher + trailer(home, real_name(name), roots.workspace))
    temporary.chmod(os.stat(program).st_mode & 0o777)
    with suppress(FileNotFoundError):
        os.unlink(real)
    # the program is there at every moment, whatever happens in between
    try:
        os.link(program, real)
    except OSError:
        shutil.copy2(program, real)
    os.replace(temporary, program)
    return real
