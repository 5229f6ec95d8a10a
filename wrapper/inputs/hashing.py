"""Hash files, and know them again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from remote_apis.digest_functions import DigestFunction

_RACY_NS = 50_000_000
_READ_SIZE = 1 << 20
_SMALL = 1 << 16
_own = threading.local()


class FileIdentity(NamedTuple):
    """What changes of a file when its bytes do."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, st: os.stat_result) -> FileIdentity:
        """A file's by its status."""
        return cls(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)

    def is_settled(self, since_ns: int) -> bool:
        """Whether each change since then shows: none can come within the same tick of the clock."""
        return since_ns - max(self.mtime_ns, self.ctime_ns) >= _RACY_NS


Ahead = Callable[[], list[tuple[FileIdentity, str]]]
"""Waits for hashes that are on their way, of files that had settled."""


def hash_read(path: str, function: DigestFunction) -> tuple[FileIdentity, str, int]:
    """What a file was before it was read, the hash and size of what was read. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        hasher = function.hasher(identity.size)
        size = 0
        buffer = _buffer(identity.size)
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            size += count
    return identity, hasher.hexdigest(), size


def _buffer(size: int) -> memoryview:
    """Room for a piece of a file of so many bytes; the large one is the thread's, for memory that
    was never used before costs more than hashing what is read into it."""
    if size < _SMALL:
        return memoryview(bytearray(size + 1))
    if not hasattr(_own, "buffer"):
        _own.buffer = memoryview(bytearray(_READ_SIZE))
    found: memoryview = _own.buffer
    return found


def hash_mapped(path: str, function: DigestFunction) -> tuple[FileIdentity, str]:
    """What a file was before it was read, and its hash. Raises OSError.

    At one go, so that the hashing thread never waits for the interpreter. Not for files that
    somebody may cut short meanwhile: that ends the process.
    """
    with open(path, "rb", buffering=0) as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        return identity, function.hash_mapped(file.fileno(), identity.size)
