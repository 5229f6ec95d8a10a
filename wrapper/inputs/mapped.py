"""Hash files that running programs map, such as a compiler's library."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from remote_apis.digest_functions import DigestFunction

_RACY_NS = 50_000_000


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


def hash_mapped(path: str, function: DigestFunction) -> tuple[FileIdentity, str]:
    """A file's hash, and what it was before it was read. Raises OSError.

    At one go, so that the hashing thread never waits for the interpreter. Not for files that
    somebody may cut short meanwhile: that ends the process.
    """
    with open(path, "rb", buffering=0) as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        return identity, function.hash_mapped(file.fileno(), identity.size)
