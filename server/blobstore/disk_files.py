"""Opens the disk store's files, never one whose bytes may be wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from weakref import WeakValueDictionary

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound
from server.blobstore.disk_index import DiskIndex, Identity
from server.blobstore.disk_layout import DiskLayout, hash_file

_SAVE_SLICE = 64


class CheckedFiles:
    """A file's bytes are trusted while its identity is the one it had when they were last written
    or hashed by this process. Otherwise they are hashed first; a file that fails is quarantined.
    """

    def __init__(
        self,
        layout: DiskLayout,
        index: DiskIndex,
        *,
        hashing: Executor,
        renaming: Executor,
        hard_linked: bool,
    ) -> None:
        """`renaming`: the one thread on which files appear and disappear."""
        self._layout = layout
        self._index = index
        self._hashing = hashing
        self._renaming = renaming
        self._hard_linked = hard_linked
        self._locks: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()
        self._being_saved: frozenset[Digest] = frozenset()

    def identity(self, status: os.stat_result) -> Identity:
        """What must not change for the bytes to be trusted."""
        return Identity.of(status, hard_linked=self._hard_linked)

    async def open(self, digest: Digest) -> int:
        """A descriptor of the blob's file, to be closed by the caller. Raises BlobNotFound."""
        descriptor, known = self._open(digest)
        if known:
            return descriptor
        os.close(descriptor)
        async with self._locks.setdefault(digest, asyncio.Lock()):
            while True:
                descriptor, known = self._open(digest)
                if known:
                    return descriptor
                os.close(descriptor)
                await self._check(digest)

    async def save_uses(self) -> None:
        """Note last uses in the files' access times, so that their order survives a restart."""
        loop = asyncio.get_running_loop()
        unsaved = self._index.take_unsaved_uses()
        for at in range(0, len(unsaved), _SAVE_SLICE):
            part = unsaved[at : at + _SAVE_SLICE]
            uses = [(self._layout.path_of(entry.digest), entry.last_use) for entry in part]
            # Setting them changes the change time before we know to which value.
            self._being_saved = frozenset(entry.digest for entry in part)
            try:
                changed = await loop.run_in_executor(self._renaming, _set_access_times, uses)
            finally:
                self._being_saved = frozenset()
            for entry, change in zip(part, changed, strict=True):
                if change and entry.identity and entry.identity.is_of(change[0]):
                    entry.identity = self.identity(change[1])

    def _open(self, digest: Digest) -> tuple[int, bool]:
        """The file and whether its bytes are known to be right. Raises BlobNotFound."""
        entry = self._index.get(digest)
        if entry is None:
            raise BlobNotFound(digest)
        try:
            descriptor = os.open(self._layout.path_of(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._index.remove(digest)
            raise BlobNotFound(digest) from None
        if entry.identity is None:
            return descriptor, False
        whenever = digest in self._being_saved
        return descriptor, entry.identity.is_of(os.fstat(descriptor), whenever=whenever)

    async def _check(self, digest: Digest) -> None:
        """Hash the file: either its identity becomes known or it leaves the store."""
        entry = self._index.get(digest)
        loop = asyncio.get_running_loop()
        path = self._layout.path_of(digest)
        try:
            is_right, status = await loop.run_in_executor(self._hashing, hash_file, path, digest)
        except FileNotFoundError:
            return  # `_open` says the same and knows what to do
        if self._index.get(digest) is not entry or entry is None:
            return  # written or removed meanwhile
        if is_right:
            entry.identity = self.identity(status)
            return
        self._index.remove(digest)
        await loop.run_in_executor(self._renaming, self._layout.quarantine, digest, status.st_ino)
        raise BlobNotFound(digest)


def _set_access_times(
    uses: Sequence[tuple[str, float]],
) -> list[tuple[os.stat_result, os.stat_result] | None]:
    """The status before and after; None where there is no file, or one with two names."""
    changed: list[tuple[os.stat_result, os.stat_result] | None] = []
    for path, last_use in uses:
        try:
            before = os.stat(path)
            if before.st_nlink > 1:
                changed.append(None)  # its times are those of a build's output
                continue
            os.utime(path, ns=(int(last_use * 1e9), before.st_mtime_ns))
            changed.append((before, os.stat(path)))
        except FileNotFoundError:
            changed.append(None)
    return changed
