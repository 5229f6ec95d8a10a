"""A leaf that keeps each blob in a file of its own on the local disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, OutOfSpace, Unavailable
from server.blobstore.adopting import FULL, take_blob, take_file
from server.blobstore.disk_files import CheckedFiles
from server.blobstore.disk_index import DiskIndex, Entry
from server.blobstore.disk_layout import DiskLayout, load
from server.blobstore.group_commit import GroupCommitter, PendingFile
from server.blobstore.interface import CHUNK_SIZE
from server.blobstore.pieces import PieceWriter
from server.blobstore.verifying import Verifier

_SYNC_EVERY = 32 * 1024 * 1024
"""Bytes of one blob written between syncs: no commit waits long for another's backlog."""
_SAVE_SECONDS = 300.0
Take = Callable[[str], int | None]
"""Makes a temporary file of this name and returns its descriptor; None when it cannot."""


class DiskBlobStore:
    """Files below a root directory; use `DiskBlobStore.open`. Also `LocalFiles` and `Evictable`.

    What is there is known from an index in memory; what is in a file is checked when it is opened
    and anything about it has changed.
    """

    def __init__(
        self,
        layout: DiskLayout,
        *,
        durable: bool,
        hard_linked: bool,
        in_threads: bool,
        clock: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._in_threads = in_threads
        self._durable = durable
        self._clock = clock
        self._index = DiskIndex()
        self._commits = ThreadPoolExecutor(1, "blobstore-commit")
        self._workers = ThreadPoolExecutor(4, "blobstore-io")
        self._committer = GroupCommitter(layout, self._commits, durable=durable)
        self._committing: Counter[Digest] = Counter()
        self._files = CheckedFiles(
            layout,
            self._index,
            hashing=self._workers,
            renaming=self._commits,
            hard_linked=hard_linked,
        )
        self._temporary_names = count()
        self._saver: asyncio.Task[None] | None = None
        self._taking: set[asyncio.Task[set[Digest]]] = set()

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        durable: bool = True,
        hard_linked: bool = False,
        in_threads: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> DiskBlobStore:
        """Open or create the store in a directory. Raises Unavailable when another process has it.

        `durable`: off only for caches that may lose anything. `hard_linked`: callers make hard
        links to the files, which changes their change time; it is then no sign of tampering.
        `in_threads`: large pieces are hashed and written beside the loop, which takes more time in
        all, and is for a process whose loop has others waiting while the machine has cores idle.
        """
        loop = asyncio.get_running_loop()
        layout = await loop.run_in_executor(None, DiskLayout, root)
        try:
            files = await loop.run_in_executor(None, load, layout)
        except BaseException:
            layout.release()
            raise
        self = cls(
            layout,
            durable=durable,
            hard_linked=hard_linked,
            in_threads=in_threads,
            clock=clock,
        )
        for each in files:
            self._index.put(
                Entry(
                    each.digest, disk_bytes=each.disk_bytes, last_use=each.last_use, identity=None
                )
            )
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
        if self._taking:
            await asyncio.wait(self._taking)
        await self._committer.close()
        await self._files.save_uses()
        self._commits.shutdown()
        self._workers.shutdown()
        self._layout.close()

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        return self._index.touch_all(digests, self._clock())

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        if digest.size == 0:
            return
        descriptor = await self._files.open(digest)
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
        os.close(await self._files.open(digest))
        self._index.touch(digest, self._clock())
        return Path(self._layout.path_of(digest))

    async def adopt(
        self, digest: Digest, path: str, status: os.stat_result, *, links: bool
    ) -> bool:
        take = partial(take_file, path, status=status, links=links)
        return not await self._take_all({digest: take})

    async def copy_in(self, paths: Mapping[Digest, str]) -> set[Digest]:
        takes = {d: partial(take_blob, path, digest=d) for d, path in paths.items()}
        return await self._take_all(takes)

    async def _take_all(self, takes: Mapping[Digest, Take]) -> set[Digest]:
        """Store what each makes; returns the digests of those that make nothing."""
        taking = asyncio.create_task(self._take_each(takes))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        # it goes on when the caller is gone: a thread has the files open
        return await asyncio.shield(taking)

    async def _take_each(self, takes: Mapping[Digest, Take]) -> set[Digest]:
        wanted = {
            digest: (take, f"{self._layout.tmp}/{next(self._temporary_names)}")
            for digest, take in takes.items()
            if digest.size and not await self._is_there(digest)
        }
        loop = asyncio.get_running_loop()
        # in one thread: a hop for each takes as long as to copy a small file
        made = await loop.run_in_executor(self._workers, _make_all, wanted)
        commits = {
            digest: self._commit(descriptor, wanted[digest][1], digest)
            for digest, descriptor in made.items()
            if isinstance(descriptor, int)
        }
        outcomes = await asyncio.gather(*commits.values(), return_exceptions=True)
        for digest, outcome in (*made.items(), *zip(commits, outcomes, strict=True)):
            if isinstance(outcome, BaseException):
                with _as_out_of_space(digest):
                    raise outcome
        return {digest for digest, descriptor in made.items() if descriptor is None}

    def linked(self, digest: Digest, status: os.stat_result) -> None:
        entry = self._index.get(digest)
        if entry is not None and entry.identity and entry.identity.inode == status.st_ino:
            entry.identity = self._files.identity(status)

    def where(self, digest: Digest) -> str:
        return str(self._layout.empty_file) if digest.size == 0 else self._layout.path_of(digest)

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        if digest.size == 0 or await self._is_there(digest):
            return
        temporary = f"{self._layout.tmp}/{next(self._temporary_names)}"
        with _as_out_of_space(digest):
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444
            )
            is_complete = False
            try:
                is_complete = await self._fill(descriptor, digest, chunks)
            finally:
                if not is_complete:
                    os.close(descriptor)
                    os.unlink(temporary)
            if is_complete:
                await self._commit(descriptor, temporary, digest)

    async def remove(self, digests: Collection[Digest]) -> None:
        """Delete blobs, except those that are just being written once more.

        Readers that have begun are not disturbed.
        """
        going = [digest for digest in digests if digest not in self._committing]
        for digest in going:
            self._index.remove(digest)
        paths = [self._layout.path_of(digest) for digest in going]
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
        """Write down when blobs were last used; happens by itself every few minutes."""
        await self._files.save_uses()

    async def _save_uses_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self._files.save_uses()

    async def _is_there(self, digest: Digest) -> bool:
        """Whether the blob can be read; its use is noted."""
        if digest not in self._index:
            return False
        try:
            os.close(await self._files.open(digest))
        except BlobNotFound:
            return False
        return self._index.touch(digest, self._clock())

    async def _fill(self, descriptor: int, digest: Digest, chunks: AsyncIterator[bytes]) -> bool:
        """Write the verified chunks. False when another writer was done before us."""
        verifier = Verifier(digest)
        loop = asyncio.get_running_loop()
        unsynced = 0
        threads = self._workers if self._in_threads else None
        async with PieceWriter(descriptor, verifier, threads) as writer:
            async for chunk in chunks:
                if digest in self._index:
                    return False
                await writer.write(chunk)
                unsynced += len(chunk)
                if unsynced >= _SYNC_EVERY and self._durable:
                    unsynced = 0
                    await loop.run_in_executor(self._workers, _sync_and_close, os.dup(descriptor))
        verifier.finish()
        return True

    async def _commit(self, descriptor: int, temporary: str, digest: Digest) -> None:
        final = self._layout.path_of(digest)
        file = PendingFile(descriptor=descriptor, temporary=temporary, final=final)
        self._committing[digest] += 1

        def done(status: os.stat_result | None) -> None:
            self._committing[digest] -= 1
            if not self._committing[digest]:
                del self._committing[digest]
            if status is not None:
                identity = self._files.identity(status)
                disk_bytes = status.st_blocks * 512
                entry = Entry(
                    digest, disk_bytes=disk_bytes, last_use=self._clock(), identity=identity
                )
                self._index.put(entry)

        await self._committer.commit(file, done)


@contextlib.contextmanager
def _as_out_of_space(digest: Digest) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise OutOfSpace(f"no space is left on the disk for blob {digest}") from error
        raise


def _make_all(
    wanted: Mapping[Digest, tuple[Take, str]],
) -> dict[Digest, int | OSError | None]:
    made: dict[Digest, int | OSError | None] = {}
    for digest, (take, temporary) in wanted.items():
        try:
            made[digest] = take(temporary)
        except OSError as error:
            made[digest] = error
    return made


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink_all(paths: Collection[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
