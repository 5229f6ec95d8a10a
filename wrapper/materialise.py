"""Put a result's files into the target directory, as rustc would have left them."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

_numbers = itertools.count()
_NOT_BETWEEN_THESE = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def place_outputs(
    *,
    out_dir: str,
    files: Mapping[str, tuple[Path | bytes, bool]],
    dep_info: tuple[str, bytes] | None,
) -> dict[str, os.stat_result]:
    """Copy each file under its name into `out_dir`; returns the stats of what is there then.

    Each file appears whole, by rename, with a fresh modification time, so that cargo finds the
    unit up to date. Copies and not hard links: the same inode in two target directories would
    carry one's times into the other's, and a tool that patches a program would patch the cache.
    `files` maps names to (a file or bytes, executable); `dep_info` is the rewritten `.d` file.
    Raises OSError.
    """
    os.makedirs(out_dir, exist_ok=True)
    placed: dict[str, os.stat_result] = {}
    if dep_info is not None:
        name, data = dep_info
        placed[name] = _place(out_dir, name, partial(write_all, data), executable=False)
    for name, (source, executable) in files.items():
        fill = (
            partial(copy_file, source) if isinstance(source, Path) else partial(write_all, source)
        )
        placed[name] = _place(out_dir, name, fill, executable=executable)
    return placed


def _place(
    out_dir: str, name: str, fill: Callable[[int], None], *, executable: bool
) -> os.stat_result:
    # short, since the name itself may be as long as names can be
    temporary = os.path.join(out_dir, f".distbuild-{os.getpid()}-{next(_numbers)}")
    mode = 0o777 if executable else 0o666  # the umask takes its part, as it does for rustc
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
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


def write_all(data: bytes, fd: int) -> None:
    """Write all of it to a descriptor. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def copy_file(source: Path, fd: int) -> None:
    """Copy a file, sharing its blocks where the file system can. Raises OSError."""
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        done = 0
        while done < size:
            try:
                count = os.copy_file_range(file.fileno(), fd, size - done)
            except OSError as error:
                if error.errno not in _NOT_BETWEEN_THESE:
                    raise
                count = os.sendfile(fd, file.fileno(), None, size - done)
            if count == 0:
                raise OSError(f"{source} became shorter while it was copied")
            done += count
