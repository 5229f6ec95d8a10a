"""Bringing blobs from the CAS into sealed files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

from remote_apis.client.cas import CasClient
from remote_apis.client.packing import run_all
from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, MissingBlobs
from worker.cached_file import CachedFile, new_file, seal
from worker.threads import in_thread

# Up to here blobs are read together and are in memory for a moment.
SMALL_BYTES = 256 * 1024
# Some are written while others come.
_GROUP_BYTES = 512 * 1024


class BlobFetcher:
    """Downloads verified blobs into new files, small ones many at a time.

    `place` says where each belongs. Nobody else may look there before `fetch` returns; a file that
    a killed worker left half written is not sealed.
    """

    def __init__(self, place: Callable[[CachedFile], str], executor: Executor) -> None:
        self._place = place
        self._executor = executor

    async def fetch(self, files: Collection[CachedFile], cas: CasClient) -> None:
        """Have all these files, no two of which are of the same blob.

        Raises MissingBlobs with all digests that the CAS lacks, or OSError, and then leaves no
        file.
        """
        missing: list[Digest] = []
        small = [file for file in files if file.digest.size <= SMALL_BYTES]
        large = [file for file in files if file.digest.size > SMALL_BYTES]
        calls = [self._fetch_large(file, cas, missing) for file in large]
        calls += [self._fetch_group(group, cas, missing) for group in _groups(small)]
        try:
            await run_all(calls)
            if missing:
                raise MissingBlobs(sorted(missing, key=str))
        except BaseException:
            for file in files:
                Path(self._place(file)).unlink(missing_ok=True)
            raise

    async def _fetch_large(self, file: CachedFile, cas: CasClient, missing: list[Digest]) -> None:
        try:
            # Written as it comes: a hop to a thread for each piece costs more than the write.
            # Buffered, though in whole pieces: a raw write may take only a part of one.
            with os.fdopen(new_file(self._place(file)), "wb") as opened:
                async with aclosing(cas.stream(file.digest)) as pieces:
                    async for piece in pieces:
                        opened.write(piece)
                opened.flush()
                seal(opened.fileno(), file.mode)
        except BlobNotFound:
            missing.append(file.digest)

    async def _fetch_group(
        self, group: list[CachedFile], cas: CasClient, missing: list[Digest]
    ) -> None:
        try:
            contents = await cas.read_many(file.digest for file in group)
        except MissingBlobs as error:
            missing.extend(error.digests)
            return

        def write() -> None:
            for file in group:
                _write(self._place(file), contents[file.digest], file.mode)

        await in_thread(self._executor, write)


def _write(path: str, content: bytes, mode: int) -> None:
    # By descriptor and without a file object: there are thousands.
    handle = new_file(path)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
        seal(handle, mode)
    finally:
        os.close(handle)


def _groups(files: Iterable[CachedFile]) -> Iterator[list[CachedFile]]:
    group: list[CachedFile] = []
    total = 0
    for file in files:
        if group and total + file.digest.size > _GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(file)
        total += file.digest.size
    if group:
        yield group
