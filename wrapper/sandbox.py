"""A compile on this machine that can see its declared inputs and nothing else.

For where nothing can be watched (macro_watch.py). Macros and linkers read what no dep-info names.
In bubblewrap they find the unit's inputs, this machine's programs, and neither network nor the rest
of the user's files; so a result that came about may be kept under the key that names those inputs.
One that fails for it is made again without, and not kept.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence

from remote_apis.bubblewrap import find_bubblewrap, show_programs
from wrapper.build_scripts.names import above
from wrapper.inputs.inputs import Inputs
from wrapper.roots import Roots
from wrapper.rustc.arguments import Invocation

PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where compiles find programs, here as on workers."""

_TIMEOUT = 10.0
_HIDING = {"directory": ("--tmpfs",), "file": ("--ro-bind", "/dev/null")}
_MAX_HIDDEN = 100
_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d")


@functools.cache
def find_sandbox() -> str | None:
    """The bubblewrap program, when it can make sandboxes on this machine."""
    program = find_bubblewrap()
    if program is None:
        return None
    command = [program, *_system(), "--", "/usr/bin/true"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return program if done.returncode == 0 else None


def sandboxed(
    program: str,
    argv: Sequence[str],
    *,
    invocation: Invocation,
    roots: Roots,
    inputs: Inputs,
    environment: Mapping[str, str],
) -> list[str]:
    """The command that runs `argv` so. `environment` is the caller's.

    Raises OSError.
    """
    command = [program, *_system()]
    mounts = _mounts(invocation, roots, inputs)
    places = {_place(path, mounts): path for path in mounts}
    # what lies deeper is mounted later, over what lies above it
    for place, path in sorted(places.items()):
        option = mounts[path]
        command += [*_HIDING[option], place] if option in _HIDING else [option, path, place]
    # the user's own environment: what rustc reads of it, dep-info tells, and the key has the rest
    command += ["--dir", roots.workspace, "--chdir", roots.workspace]
    fifo = jobserver_fifo(environment)
    if fifo is not None:
        command += ["--bind", fifo, fifo]
    if environment.get("TMPDIR"):
        command += ["--setenv", "TMPDIR", "/tmp"]
    return [*command, "--", *argv]


def jobserver_fifo(environment: Mapping[str, str]) -> str | None:
    """The path through which cargo's jobserver is reached, where it is not by descriptors."""
    _, found, rest = environment.get("CARGO_MAKEFLAGS", "").rpartition("--jobserver-auth=fifo:")
    return rest.split()[0] if found else None


def _mounts(invocation: Invocation, roots: Roots, inputs: Inputs) -> dict[str, str]:
    """How each path is shown: hidden, to be read, or to be written."""
    hidden = (path for path in inputs.left_out if os.path.isdir(path) and not os.path.islink(path))
    mounts = dict.fromkeys(hidden, "directory")
    written = [roots.out_dir]
    if invocation.incremental:
        os.makedirs(invocation.incremental, exist_ok=True)
        written.append(invocation.incremental)
    mounts |= _as_one_mount(written) or dict.fromkeys(written, "--bind")
    return mounts | dict.fromkeys((p for p in inputs.shown if p not in written), "--ro-bind")


def _as_one_mount(written: Sequence[str]) -> dict[str, str]:
    """The directory that holds two directories to be written, with all else in it hidden.

    Between two mounts there are no hard links: rustc would copy all object files that it has from
    last time. Empty where it is not so simple.
    """
    parents = {os.path.dirname(path) for path in written}
    if len(written) < 2 or len(parents) > 1:
        return {}
    mounts = dict.fromkeys(parents, "--bind")
    with os.scandir(*parents) as entries:
        for entry in entries:
            if entry.path in written:
                continue
            if entry.is_symlink() or len(mounts) > _MAX_HIDDEN:
                return {}
            mounts[entry.path] = "directory" if entry.is_dir() else "file"
    return mounts


def _place(path: str, mounts: Mapping[str, str]) -> str:
    """Where a path is mounted: where it leads, if a link on the way is shown as part of another,
    such as a package's `target` on another disk."""
    is_within = False
    for directory in above(path):
        if is_within and directory in mounts:
            return os.path.realpath(path)
        is_within = is_within or os.path.islink(directory)
    return path


@functools.cache
def _system() -> tuple[str, ...]:
    arguments = ["--die-with-parent", "--unshare-net", *show_programs()]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return (*arguments, "--dev", "/dev", "--ro-bind", "/proc", "/proc", "--tmpfs", "/tmp")
