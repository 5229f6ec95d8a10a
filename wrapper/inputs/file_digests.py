"""Digests of files by their stat: a file is hashed once for as long as it does not change."""

from __future__ import annotations

import json
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction

_RACY_NS = 50_000_000
_Hashed = tuple[Digest, os.stat_result]
_READ_SIZE = 1 << 20
_MAX_ENTRIES = 500_000
_SMALL = 1 << 16
_LARGE = 1 << 20
_MAX_SAVED = 20_000
_own = threading.local()
_LOG = logging.getLogger("distbuild.digests")


class _Identity(NamedTuple):
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def _identity(st: os.stat_result) -> _Identity:
    return _Identity(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def hash_file(path: str, function: DigestFunction) -> _Hashed:
    """Hash a file, with the stat taken before reading. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        st = os.fstat(file.fileno())
        hasher = function.hasher(st.st_size)
        size = 0
        buffer = _buffer(st.st_size)
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            size += count
    return Digest(function, hasher.hexdigest(), size), st


def _buffer(size: int) -> memoryview:
    """Room for a piece of a file of so many bytes; the large one is the thread's, for memory that
    was never used before costs more than hashing what is read into it."""
    if size < _SMALL:
        return memoryview(bytearray(size + 1))
    if not hasattr(_own, "buffer"):
        _own.buffer = memoryview(bytearray(_READ_SIZE))
    found: memoryview = _own.buffer
    return found


def hash_mapped(path: str, function: DigestFunction) -> _Hashed:
    """The same at one go, so that the hashing thread never waits for the interpreter.

    Not for files that somebody may cut short meanwhile: that ends the process.
    """
    with open(path, "rb", buffering=0) as file:
        st = os.fstat(file.fileno())
        hasher = function.hasher(st.st_size)
        if st.st_size:
            with (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
                memoryview(data) as view,
            ):
                hasher.update(view)
    return Digest(function, hasher.hexdigest(), st.st_size), st


class FileDigests:
    """A memory of digests by (device, inode, size, mtime, ctime).

    A file whose times are younger than 50 ms when it is hashed is hashed again next time: a
    change within the same tick of the clock would not show. Used from several threads; the
    worst that a race can do is to hash a file twice.
    """

    def __init__(self, function: DigestFunction) -> None:
        self.function = function
        self._known: dict[_Identity, Digest] = {}

    def load(self, path: Path) -> None:
        """Know what `save` wrote; a file that is not there or not whole is none."""
        try:
            rows = json.loads(path.read_text())
            for identity, hash_, size in rows:
                self._known[_Identity(*identity)] = Digest(self.function, hash_, size)
        except (OSError, ValueError, TypeError) as error:
            _LOG.info("no digests from before: %s", error)

    def save(self, path: Path) -> None:
        """Write down the digests of large files, a toolchain's before all. Raises OSError."""
        rows = [(i, d.hash, d.size) for i, d in self._known.items() if d.size >= _LARGE]
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        temporary.write_text(json.dumps(rows[-_MAX_SAVED:]))
        os.replace(temporary, path)

    def digest(self, path: str, st: os.stat_result | None = None) -> Digest:
        """The digest of a regular file. Raises OSError when it cannot be read."""
        known = self._known.get(_identity(st or os.stat(path)))
        return known or self._hash(path, hash_file)

    def digest_mapped(self, path: str) -> Digest:
        """The same for a file that running programs map, such as a compiler's library."""
        return self._known.get(_identity(os.stat(path))) or self._hash(path, hash_mapped)

    def _hash(self, path: str, hash_: Callable[[str, DigestFunction], _Hashed]) -> Digest:
        digest, st = hash_(path, self.function)
        self.learn(st, digest)
        return digest

    def learn(self, st: os.stat_result, digest: Digest, *, is_ours: bool = False) -> None:
        """Remember what a file holds, when its stat is old enough to show later changes.

        `is_ours`: this process has just put the file there whole, by rename.
        """
        if not is_ours and time.time_ns() - max(st.st_mtime_ns, st.st_ctime_ns) < _RACY_NS:
            return
        if len(self._known) >= _MAX_ENTRIES:
            self._known.clear()
        self._known[_identity(st)] = digest
