"""The worker's copies of input blobs, from which input roots are hard-linked."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from remote_apis.errors import OutOfSpace
from worker.blob_fetch import BlobFetcher
from worker.cached_file import (
    AlteredInputs,
    CachedFile,
    copy_file,
    is_intact_at,
    new_file,
    parse_name,
)
from worker.threads import in_thread

_LOG = logging.getLogger(__name__)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Hold:
    """Files that an action uses; `is_tainted` once one of them was found altered."""

    def __init__(self, files: frozenset[CachedFile]) -> None:
        self.files = files
        self.is_tainted = False


class BlobCache:
    """Verified blobs as read-only files: at most `max_bytes`, more only while actions hold more.

    Nothing is synced to the disk, so what was cached before a reboot is thrown away. A blob that
    several actions need at a time is fetched once. All are in one directory: file systems have no
    trouble with large ones, and spread the files of many over the whole disk.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int, executor: Executor, boot_id: str | None = None
    ) -> None:
        self._directory = directory
        self._files = directory / "files"
        self._max_bytes = max_bytes
        self._executor = executor
        self._fetcher = BlobFetcher(self.place, executor)
        self._boot_id = boot_id or _BOOT_ID.read_text().strip()
        # Least recently used first.
        self._index: OrderedDict[CachedFile, None] = OrderedDict()
        self._bytes = 0
        self._users: dict[CachedFile, int] = {}
        self._holds: set[Hold] = set()
        self._arriving: dict[CachedFile, asyncio.Future[None]] = {}

    @property
    def size(self) -> int:
        """Bytes of all cached files."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, file: CachedFile) -> bool:
        return file in self._index

    def open(self) -> None:
        """Load what is there, or start empty after a reboot. Raises OSError."""
        marker = self._directory / "boot-id"
        if not marker.exists() or marker.read_text() != self._boot_id:
            shutil.rmtree(self._files, ignore_errors=True)
        self._files.mkdir(parents=True, exist_ok=True)
        marker.write_text(self._boot_id)
        found = []
        with os.scandir(self._files) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    found.append((entry.stat(follow_symlinks=False), Path(entry.path)))
        # Each hard link sets the ctime: the order of use survives a restart.
        found.sort(key=lambda item: item[0].st_ctime_ns)
        for status, path in found:
            file = parse_name(path.name)
            if file is None or not file.is_intact(status):
                path.unlink()
            else:
                self._add(file)
        self._evict(self._max_bytes)

    def path(self, file: CachedFile) -> Path:
        """Where the file is, or would be."""
        return Path(self.place(file))

    def place(self, file: CachedFile) -> str:
        """The same as a string: for thousands of files Paths cost more than the system's calls."""
        return f"{self._files}/{file.name}"

    @asynccontextmanager
    async def hold(
        self,
        files: Collection[CachedFile],
        cas: CasClient,
        *,
        watched: Collection[CachedFile] = (),
    ) -> AsyncIterator[Hold]:
        """Have the files in the cache until the end of the block, fetching what is missing.

        The `watched` ones taint the hold too, and need not be in the cache. Raises MissingBlobs
        when the CAS lacks some, OutOfSpace when the disk is full.
        """
        held = frozenset(files)
        hold = Hold(held.union(watched))
        self._holds.add(hold)
        for file in held:
            self._users[file] = self._users.get(file, 0) + 1
        try:
            await self._ensure(held, cas)
            for file in held:
                self._index.move_to_end(file)
            yield hold
        finally:
            self._holds.remove(hold)
            for file in held:
                self._users[file] -= 1
                if not self._users[file]:
                    del self._users[file]
            self._evict(self._max_bytes)

    def intact_path(self, file: CachedFile) -> str:
        """Where the file is. Raises AlteredInputs when it is not as the cache made it."""
        path = self.place(file)
        if not is_intact_at(file, path):
            raise AlteredInputs([file])
        return path

    def link(self, file: CachedFile, path: str) -> None:
        """Put the file, which is held, at `path`, by copy where it cannot be linked.

        Raises AlteredInputs, as `intact_path`.
        """
        source = self.intact_path(file)
        try:
            os.link(source, path)
        except OSError as error:
            # Too many links to one inode, or a file system without links.
            if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP):
                raise
            copy_file(source, path, mode=file.mode)

    def drop(self, files: Iterable[CachedFile]) -> None:
        """Forget files that turned out altered, so that they are fetched anew.

        Every hold on one of them becomes tainted: those actions may have read the wrong bytes.
        """
        for file in files:
            _LOG.warning("input %s was altered: dropped from the cache", file.digest)
            for hold in self._holds:
                hold.is_tainted = hold.is_tainted or file in hold.files
            if file in self._index:
                self._remove(file)

    async def _ensure(self, files: frozenset[CachedFile], cas: CasClient) -> None:
        while absent := [file for file in files if file not in self._index]:
            mine = [file for file in absent if file not in self._arriving]
            if mine:
                await self._fetch_claimed(mine, cas)
            else:
                # Others fetch them; when they fail or are cancelled, the next round does it.
                await asyncio.wait({self._arriving[file] for file in absent})

    async def _fetch_claimed(self, files: list[CachedFile], cas: CasClient) -> None:
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arriving.update(dict.fromkeys(files, arrived))
        try:
            try:
                await self._fetch(files, cas)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._evict(self._bytes // 2)
                await self._fetch([file for file in files if file not in self._index], cas)
        except OSError as error:
            if error.errno in _FULL:
                raise OutOfSpace(f"no room for input blobs in {self._directory}") from error
            raise
        finally:
            for file in files:
                del self._arriving[file]
            arrived.set_result(None)

    async def _fetch(self, files: list[CachedFile], cas: CasClient) -> None:
        absent: dict[Digest, CachedFile] = {}
        for file in files:
            if file.twin not in self._index:
                absent.setdefault(file.digest, file)
        await self._fetcher.fetch(absent.values(), cas)
        for file in absent.values():
            self._add(file)
        # The second mode of a blob is a local copy.
        for file in [file for file in files if file not in self._index]:
            await in_thread(self._executor, partial(self._copy_twin, file))
            self._add(file)
        self._evict(self._max_bytes)

    def _copy_twin(self, file: CachedFile) -> None:
        path = self.place(file)
        os.close(new_file(path))
        copy_file(self.intact_path(file.twin), path, mode=file.mode)

    def _add(self, file: CachedFile) -> None:
        if file not in self._index:
            self._index[file] = None
            self._bytes += file.digest.size

    def _remove(self, file: CachedFile) -> None:
        del self._index[file]
        self._bytes -= file.digest.size
        self.path(file).unlink(missing_ok=True)

    def _evict(self, max_bytes: int) -> None:
        if self._bytes <= max_bytes:
            return
        for file in [file for file in self._index if file not in self._users]:
            if self._bytes <= max_bytes:
                return
            self._remove(file)
