"""Bringing blobs from the CAS into files."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

from remote_apis.client.cas import CasClient
from remote_apis.client.packing import run_all
from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, MissingBlobs

# Up to here blobs are read together and are in memory for a moment.
SMALL_BYTES = 256 * 1024
_GROUP_BYTES = 4 * 1024 * 1024


class BlobFetcher:
    """Downloads verified blobs into new files of `directory`, small ones many at a time."""

    def __init__(self, directory: Path, executor: Executor) -> None:
        self._directory = directory
        self._executor = executor
        self._names = itertools.count()

    async def fetch(self, digests: Collection[Digest], cas: CasClient) -> dict[Digest, Path]:
        """A fresh file for each digest; the caller moves or removes them.

        Raises MissingBlobs with all digests that the CAS lacks, or OSError, and then leaves no
        file.
        """
        made: dict[Digest, Path] = {}
        missing: list[Digest] = []
        small = [digest for digest in digests if digest.size <= SMALL_BYTES]
        large = [digest for digest in digests if digest.size > SMALL_BYTES]
        calls = [self._fetch_large(digest, cas, made, missing) for digest in large]
        calls += [self._fetch_group(group, cas, made, missing) for group in _groups(small)]
        try:
            await run_all(calls)
            if missing:
                raise MissingBlobs(sorted(missing, key=str))
        except BaseException:
            for path in made.values():
                path.unlink(missing_ok=True)
            raise
        return made

    async def _fetch_large(
        self, digest: Digest, cas: CasClient, made: dict[Digest, Path], missing: list[Digest]
    ) -> None:
        path = self._new_path()
        made[digest] = path
        try:
            # Written as it comes: a hop to a thread for each piece costs more than the write.
            # Buffered, though in whole pieces: a raw write may take only a part of one.
            with path.open("xb") as file:
                async with aclosing(cas.stream(digest)) as pieces:
                    async for piece in pieces:
                        file.write(piece)
        except BlobNotFound:
            missing.append(digest)

    async def _fetch_group(
        self, group: list[Digest], cas: CasClient, made: dict[Digest, Path], missing: list[Digest]
    ) -> None:
        try:
            contents = await cas.read_many(group)
        except MissingBlobs as error:
            missing.extend(error.digests)
            return
        paths = {digest: self._new_path() for digest in contents}
        made.update(paths)
        await asyncio.get_running_loop().run_in_executor(
            self._executor, _write_files, [(paths[d], contents[d]) for d in contents]
        )

    def _new_path(self) -> Path:
        return self._directory / str(next(self._names))


def _write_files(files: list[tuple[Path, bytes]]) -> None:
    for path, content in files:
        path.write_bytes(content)


def _groups(digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    group: list[Digest] = []
    total = 0
    for digest in digests:
        if group and total + digest.size > _GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(digest)
        total += digest.size
    if group:
        yield group
