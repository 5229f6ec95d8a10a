"""Digests of files by their stat: a file is hashed once for as long as it does not change."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from wrapper.inputs.hashing import Ahead, FileIdentity, hash_mapped, hash_read

_Hashed = tuple[FileIdentity, Digest]
_MAX_ENTRIES = 500_000
_LARGE = 1 << 20
_MAX_SAVED = 20_000
_LOG = logging.getLogger("distbuild.digests")


def hash_file(path: str, function: DigestFunction) -> _Hashed:
    """Hash a file, with what it was before it was read. Raises OSError."""
    identity, hash_, size = hash_read(path, function)
    return identity, Digest(function, hash_, size)


def _hash_mapped(path: str, function: DigestFunction) -> _Hashed:
    identity, hash_ = hash_mapped(path, function)
    return identity, Digest(function, hash_, identity.size)


class FileDigests:
    """A memory of digests by (device, inode, size, mtime, ctime).

    A file whose times are younger than 50 ms when it is hashed is hashed again next time: a
    change within the same tick of the clock would not show. Used from several threads; the
    worst that a race can do is to hash a file twice.
    """

    def __init__(self, function: DigestFunction) -> None:
        self.function = function
        self._known: dict[FileIdentity, Digest] = {}
        self._ahead: Ahead | None = None
        self._learning = threading.Lock()

    def expect(self, ahead: Ahead) -> None:
        """Somebody hashes files of a toolchain already."""
        self._ahead = ahead

    def load(self, path: Path) -> None:
        """Know what `save` wrote; a file that is not there or not whole is none."""
        try:
            rows = json.loads(path.read_text())
            for identity, hash_, size in rows:
                self._known[FileIdentity(*identity)] = Digest(self.function, hash_, size)
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
        known = self._known.get(FileIdentity.of(st or os.stat(path)))
        return known or self._hash(path, hash_file)

    def digest_mapped(self, path: str) -> Digest:
        """The same for a file that running programs map, such as a compiler's library."""
        with self._learning:
            ahead, self._ahead = self._ahead, None
            for identity, hash_ in ahead() if ahead else ():
                self._remember(identity, Digest(self.function, hash_, identity.size))
        return self._known.get(FileIdentity.of(os.stat(path))) or self._hash(path, _hash_mapped)

    def _hash(self, path: str, hash_: Callable[[str, DigestFunction], _Hashed]) -> Digest:
        begun = time.time_ns()
        identity, digest = hash_(path, self.function)
        if identity.is_settled(begun):
            self._remember(identity, digest)
        return digest

    def learn(self, st: os.stat_result, digest: Digest) -> None:
        """Remember what a file holds that this process has just put there whole, by rename."""
        self._remember(FileIdentity.of(st), digest)

    def _remember(self, identity: FileIdentity, digest: Digest) -> None:
        if len(self._known) >= _MAX_ENTRIES:
            self._known.clear()
        self._known[identity] = digest
