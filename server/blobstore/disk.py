"""A leaf that keeps each blob in a file of its own on the local disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from weakref import WeakValueDictionary

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, OutOfSpace, Unavailable
from server.blobstore.disk_index import DiskIndex, Entry, Identity
from server.blobstore.disk_layout import DiskLayout, FoundFile, hash_file
from server.blobstore.group_commit import GroupCommitter, PendingFile
from server.blobstore.interface import CHUNK_SIZE
from server.blobstore.verifying import Verifier

_SYNC_EVERY = 32 * 1024 * 1024
"""Bytes of one blob written between syncs: no commit waits long for another's backlog."""
_SAVE_SECONDS = 300.0
_SAVE_SLICE = 64
_TORN_SECONDS = 30.0
"""Before a crash: the kernel writes back what is older, and commits take far less."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskBlobStore:
    """Files below `root`; use `DiskBlobStore.open`. Also a `LocalFiles`.

    What is there is known from an index in memory. A file's bytes are trusted while its identity
    is the one it had when they were last written or hashed by this process; otherwise they are
    hashed before the first of them is handed out, and a file that fails is quarantined.
    """

    def __init__(
        self, layout: DiskLayout, *, durable: bool, hard_linked: bool, clock: Callable[[], float]
    ) -> None:
        self._layout = layout
        self._hard_linked = hard_linked
        self._durable = durable
        self._clock = clock
        self._index = DiskIndex()
        self._commits = ThreadPoolExecutor(1, "blobstore-commit")
        self._workers = ThreadPoolExecutor(4, "blobstore-io")
        self._committer = GroupCommitter(layout, self._commits, durable=durable)
        self._check_locks: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()
        self._being_saved: frozenset[Digest] = frozenset()
        self._temporary_names = count()
        self._saver: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        durable: bool = True,
        hard_linked: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> DiskBlobStore:
        """Open or create the store in a directory. Raises Unavailable when another process has it.

        `durable`: off only for caches that may lose anything. `hard_linked`: callers make hard
        links to the files, which changes their change time; it is then no sign of tampering.
        """
        loop = asyncio.get_running_loop()
        layout = await loop.run_in_executor(None, DiskLayout, root)
        self = cls(layout, durable=durable, hard_linked=hard_linked, clock=clock)
        await loop.run_in_executor(self._workers, self._load)
        self._saver = loop.create_task(self._save_uses_for_ever())
        return self

    async def close(self) -> None:
        """Finish what is being committed, save the uses and let others open the directory.

        A second call does nothing.
        """
        saver, self._saver = self._saver, None
        if saver is None:
            return
        saver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saver
        await self._committer.close()
        await self.save_uses()
        self._commits.shutdown()
        self._workers.shutdown()
        self._layout.close()

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        now = self._clock()
        touch = self._index.touch
        return {digest for digest in digests if digest.size and not touch(digest, now)}

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        if digest.size == 0:
            return
        descriptor = await self._open_checked(digest)
        try:
            self._index.touch(digest, self._clock())
            written_at = os.fstat(descriptor).st_mtime_ns
            end = min(digest.size, offset + limit) if limit else digest.size
            while offset < end:
                chunk = os.pread(descriptor, min(CHUNK_SIZE, end - offset), offset)
                if not chunk or os.fstat(descriptor).st_mtime_ns != written_at:
                    raise Unavailable(f"blob {digest} changed on disk while it was read")
                offset += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    async def path_of(self, digest: Digest) -> Path:
        if digest.size == 0:
            return self._layout.empty_file
        os.close(await self._open_checked(digest))
        self._index.touch(digest, self._clock())
        return Path(self._layout.path_of(digest))

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        if digest.size == 0 or await self._is_there(digest):
            return
        temporary = f"{self._layout.tmp}/{next(self._temporary_names)}"
        with _as_out_of_space(digest):
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444
            )
            try:
                complete = await self._fill(descriptor, digest, chunks)
            except BaseException:
                os.close(descriptor)
                Path(temporary).unlink()
                raise
            if not complete:
                os.close(descriptor)
                Path(temporary).unlink()
                return
            file = PendingFile(
                descriptor=descriptor, temporary=temporary, final=self._layout.path_of(digest)
            )
            await self._committer.commit(file, lambda status: self._add(digest, status))

    async def remove(self, digests: Collection[Digest]) -> None:
        """Delete blobs; readers that have begun are not disturbed."""
        paths = []
        for digest in digests:
            self._index.remove(digest)
            paths.append(self._layout.path_of(digest))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._commits, _unlink_all, paths)

    @property
    def disk_bytes(self) -> int:
        """What the blobs' files take on the disk."""
        return self._index.disk_bytes

    def uses(self) -> Iterator[tuple[Digest, float, int]]:
        """Digest, last use by the clock and disk bytes, least recent first. Not across awaits."""
        return self._index.uses()

    async def save_uses(self) -> None:
        """Note last uses in the files' access times, so that their order survives a restart."""
        loop = asyncio.get_running_loop()
        unsaved = self._index.take_unsaved_uses()
        for at in range(0, len(unsaved), _SAVE_SLICE):
            part = unsaved[at : at + _SAVE_SLICE]
            uses = [(self._layout.path_of(digest), entry.last_use) for digest, entry in part]
            self._being_saved = frozenset(digest for digest, _ in part)
            try:
                changed = await loop.run_in_executor(self._commits, _set_access_times, uses)
            finally:
                self._being_saved = frozenset()
            for (_, entry), change in zip(part, changed, strict=True):
                if change and entry.identity == self._identity(change[0]):
                    entry.identity = self._identity(change[1])

    async def _save_uses_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self.save_uses()

    def _load(self) -> None:
        files = sorted(self._layout.scan(), key=lambda found: found.last_use)
        if not self._layout.was_closed:
            files = self._without_torn(files)
        for found in files:
            entry = Entry(disk_bytes=found.disk_bytes, last_use=found.last_use, identity=None)
            self._index.put(found.digest, entry)

    def _without_torn(self, files: Sequence[FoundFile]) -> list[FoundFile]:
        """After a crash: hash what was written last, some of which may not have been synced."""
        newest = max((found.modified for found in files), default=0.0)
        kept = []
        for found in files:
            if found.modified >= newest - _TORN_SECONDS:
                path = self._layout.path_of(found.digest)
                is_right, status = hash_file(path, found.digest)
                if not is_right:
                    self._layout.quarantine(found.digest, status.st_ino)
                    continue
            kept.append(found)
        return kept

    def _add(self, digest: Digest, status: os.stat_result) -> None:
        entry = Entry(
            disk_bytes=status.st_blocks * 512,
            last_use=self._clock(),
            identity=self._identity(status),
        )
        self._index.put(digest, entry)

    def _identity(self, status: os.stat_result) -> Identity:
        return Identity.of(status, hard_linked=self._hard_linked)

    async def _is_there(self, digest: Digest) -> bool:
        """Whether the blob can be read; its use is noted."""
        if digest not in self._index:
            return False
        try:
            os.close(await self._open_checked(digest))
        except BlobNotFound:
            return False
        return self._index.touch(digest, self._clock())

    async def _fill(self, descriptor: int, digest: Digest, chunks: AsyncIterator[bytes]) -> bool:
        """Write the verified chunks. False when another writer was done before us."""
        verifier = Verifier(digest)
        unsynced = 0
        async for chunk in chunks:
            if digest in self._index:
                return False
            verifier.add(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
            unsynced += len(chunk)
            if unsynced >= _SYNC_EVERY and self._durable:
                unsynced = 0
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._workers, _sync_and_close, os.dup(descriptor))
        verifier.finish()
        return True

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
        identity = self._identity(os.fstat(descriptor))
        if digest in self._being_saved:
            return descriptor, identity[:3] == entry.identity[:3]
        return descriptor, identity == entry.identity

    async def _open_checked(self, digest: Digest) -> int:
        """The file of a blob, its bytes known to be right. Raises BlobNotFound."""
        descriptor, known = self._open(digest)
        if known:
            return descriptor
        os.close(descriptor)
        lock = self._check_locks.setdefault(digest, asyncio.Lock())
        async with lock:
            while True:
                descriptor, known = self._open(digest)
                if known:
                    return descriptor
                os.close(descriptor)
                await self._check(digest)

    async def _check(self, digest: Digest) -> None:
        """Hash the file: either its identity becomes known or it leaves the store."""
        entry = self._index.get(digest)
        loop = asyncio.get_running_loop()
        path = self._layout.path_of(digest)
        try:
            is_right, status = await loop.run_in_executor(self._workers, hash_file, path, digest)
        except FileNotFoundError:
            return  # `_open` says the same and knows what to do
        if self._index.get(digest) is not entry or entry is None:
            return  # written or removed meanwhile
        if is_right:
            entry.identity = self._identity(status)
            return
        self._index.remove(digest)
        await loop.run_in_executor(self._commits, self._layout.quarantine, digest, status.st_ino)
        raise BlobNotFound(digest)


@contextlib.contextmanager
def _as_out_of_space(digest: Digest) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfSpace(f"no space is left on the disk for blob {digest}") from error
        raise


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink_all(paths: Collection[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _set_access_times(
    uses: Sequence[tuple[str, float]],
) -> list[tuple[os.stat_result, os.stat_result] | None]:
    """The status before and after; None where there is no file."""
    changed: list[tuple[os.stat_result, os.stat_result] | None] = []
    for path, last_use in uses:
        try:
            before = os.stat(path)
            os.utime(path, ns=(int(last_use * 1e9), before.st_mtime_ns))
            changed.append((before, os.stat(path)))
        except FileNotFoundError:
            changed.append(None)
    return changed
