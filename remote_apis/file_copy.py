"""Copying a file's bytes by the kernel, and telling whether a file is still what it was."""

from __future__ import annotations

import errno
import os

_NOT_BETWEEN_THESE = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def is_unchanged(now: os.stat_result, before: os.stat_result) -> bool:
    """Whether it is the same file with the same bytes, whatever names it has got or lost."""
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (
        before.st_ino, before.st_size, before.st_mtime_ns
    )  # fmt: skip


def copy_bytes(source: int, target: int) -> None:
    """Copy all of one open file to another, sharing blocks where the file system can.

    Raises OSError, also when the source becomes shorter meanwhile.
    """
    left = os.fstat(source).st_size
    while left > 0:
        try:
            count = os.copy_file_range(source, target, left)
        except OSError as error:
            if error.errno not in _NOT_BETWEEN_THESE:
                raise
            count = os.sendfile(target, source, None, left)
        if count == 0:
            raise OSError(errno.ESTALE, "the file became shorter while it was copied")
        left -= count
