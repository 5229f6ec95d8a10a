"""Taking files that others made into a disk store."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from functools import partial

from remote_apis.blob_files import copy_blob
from remote_apis.digest import Digest
from remote_apis.file_copy import copy_bytes, is_unchanged

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def take_file(path: str, temporary: str, status: os.stat_result, *, links: bool) -> int | None:
    """Make the file `temporary` of the one at `path`, if that still is what `status` is of. Blocks.

    `links`: it becomes another name of the same file. Returns a descriptor, to be closed by the
    caller; None when the file is another by now, or cannot be taken so. Raises OSError when there
    is no room. But for a descriptor returned, nothing is left behind.
    """
    if links:
        return _take(temporary, partial(_link, path, temporary, status))
    return _take(temporary, partial(_copy, temporary, partial(_copy_unchanged, path, status)))


def take_blob(path: str, temporary: str, digest: Digest) -> int | None:
    """The same of a file that has the blob's bytes, which are looked at."""
    copy = partial(copy_blob, path, digest=digest)
    return _take(temporary, partial(_copy, temporary, copy))


def _take(temporary: str, make: Callable[[], int | None]) -> int | None:
    try:
        descriptor = make()
    except OSError as error:
        if error.errno in FULL:
            _remove(temporary)
            raise
        descriptor = None
    if descriptor is None:
        _remove(temporary)
    return descriptor


def _link(path: str, temporary: str, status: os.stat_result) -> int | None:
    os.link(path, temporary, follow_symlinks=False)
    descriptor = os.open(temporary, _READ)
    if is_unchanged(os.fstat(descriptor), status):
        return descriptor
    os.close(descriptor)
    return None


def _copy(temporary: str, copy: Callable[[int], bool]) -> int | None:
    target = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        if copy(target):
            return target
    except BaseException:
        os.close(target)
        raise
    os.close(target)
    return None


def _copy_unchanged(path: str, status: os.stat_result, target: int) -> bool:
    with open(path, "rb", buffering=0) as source:
        copy_bytes(source.fileno(), target)
        return is_unchanged(os.fstat(source.fileno()), status)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
