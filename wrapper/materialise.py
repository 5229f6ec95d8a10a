"""Put a result's files into the target directory, as rustc would have left them."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path

from remote_apis.file_copy import copy_bytes

_numbers = itertools.count()
_NAMES = 2
"""Of a linked file: in the cache, and here."""

_OF_SELINUX = "security.selinux"
"""The extended attribute that every file has there."""


def place_outputs(
    *,
    out_dir: str,
    files: Mapping[str, tuple[Path | bytes, bool]],
    dep_info: tuple[str, bytes] | None,
    linked: Container[str] = (),
    umask: int | None = None,
) -> dict[str, os.stat_result]:
    """Put each file under its name into `out_dir`; returns the stats of what is there then.

    Each file appears whole, by rename, with a fresh modification time, so that cargo finds the
    unit up to date. A file named in `linked` may be the source itself, under a second name: where
    it has no other yet, as the same inode in two target directories would carry one's times into
    the other's. All others are copies.
    `files` maps names to (a file or bytes, executable); `dep_info` is the rewritten `.d` file;
    `umask` is who asks for them's, if it is not known to be our own.
    Raises OSError.
    """
    os.makedirs(out_dir, exist_ok=True)
    placed: dict[str, os.stat_result] = {}
    if dep_info is not None:
        name, data = dep_info
        fill = partial(write_all, data)
        placed[name] = _place(out_dir, name, fill, executable=False, umask=umask)
    mode = stat.S_IMODE(placed[name].st_mode) if dep_info is not None else None
    for name, (source, executable) in files.items():
        status = None
        if isinstance(source, bytes):
            fill = partial(write_all, source)
        else:
            fill = partial(copy_file, source)
            if name in linked and mode is not None:
                of_program = (mode & 0o444) >> 2 if executable else 0
                status = _link(out_dir, name, source, mode | of_program)
        placed[name] = status or _place(out_dir, name, fill, executable=executable, umask=umask)
    return placed


def _place(
    out_dir: str, name: str, fill: Callable[[int], None], *, executable: bool, umask: int | None
) -> os.stat_result:
    temporary = _temporary(out_dir)
    fd = open_new(temporary, 0o777 if executable else 0o666, umask)
    try:
        fill(fd)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    path = os.path.join(out_dir, name)
    os.rename(temporary, path)
    return os.stat(path)


def _temporary(out_dir: str) -> str:
    # short, since the name itself may be as long as names can be
    return os.path.join(out_dir, f".distbuild-{os.getpid()}-{next(_numbers)}")


def _link(out_dir: str, name: str, source: Path, mode: int) -> os.stat_result | None:
    """Give the source a second name, if it has but one, and nothing that a user gave it when it
    had another (capabilities, say); `mode` is that of a new file here."""
    temporary = _temporary(out_dir)
    try:
        os.link(source, temporary)
    except OSError:
        return None  # another file system, or one without links
    is_marked = set(os.listxattr(temporary)) - {_OF_SELINUX}
    if os.stat(temporary).st_nlink != _NAMES or is_marked:
        os.unlink(temporary)
        return None
    path = os.path.join(out_dir, name)
    try:
        os.chmod(temporary, mode)
        os.utime(temporary)  # by the kernel's clock, a little behind, as for all files here
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    return os.stat(path)


def open_new(path: str, mode: int, umask: int | None) -> int:
    """A descriptor to write a new file, or one that a killed daemon left; of its mode the umask
    takes its part, as it does for what rustc and build scripts make. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    if umask is not None and stat.S_IMODE(os.fstat(fd).st_mode) != mode & ~umask:
        os.fchmod(fd, mode & ~umask)
    return fd


def write_all(data: bytes, fd: int) -> None:
    """Write all of it to a descriptor. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def copy_file(source: Path, fd: int) -> None:
    """Copy a file, sharing its blocks where the file system can. Raises OSError."""
    with open(source, "rb") as file:
        copy_bytes(file.fileno(), fd)
