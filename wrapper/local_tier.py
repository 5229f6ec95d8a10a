"""The local tier: results and blobs that this user has seen, in DISTBUILD_HOME."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

from remote_apis.blob_files import blob_path
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.directory import DirectoryActionCache
from server.actioncache.interface import ActionKey
from server.blobstore.interface import BlobStore, LocalFiles, write_all

_CHUNK = 1 << 20
_AT_A_TIME = 64
"""Files that are open until all of them are stored."""
_KEPT_HERE = "cargo-distbuild"
_KEPT_FOR_HERE = "cargo-distbuild, for this machine"
"""The workers named in what a developer's machine has made, which servers may have, or may not."""


class LocalTier:
    """Results that can be placed without any server. Blobs are verified before they are used."""

    def __init__(
        self,
        files: LocalFiles,
        store: BlobStore,
        results: DirectoryActionCache,
        on_adopted: Callable[[], None],
    ) -> None:
        """`store` writes what `files` then has; it may forget what is old, and has to look whether
        it must when `on_adopted` is called.
        """
        self._on_adopted = on_adopted
        self._files = files
        self._store = store
        self._results = results
        self.arriving: dict[Digest, asyncio.Future[None]] = {}
        """What is being fetched: done when it is here, or was not to be had."""

    async def lookup(self, instance: str, action: Digest) -> re_pb.ActionResult | None:
        """A result all of whose files are here, or None."""
        result = await self._results.get(ActionKey(instance, action))
        if result is None:
            return None
        return None if await self.missing(named_blobs(result, action.function)) else result

    async def known(self, instance: str, action: Digest) -> re_pb.ActionResult | None:
        """A result whose files ought to be here: whoever takes them by `where` checks their bytes.

        For a result of so many files that looking at each beforehand takes as long as to use it.
        """
        result = await self._results.get(ActionKey(instance, action))
        if result is None:
            return None
        is_whole = not await self._store.find_missing(named_blobs(result, action.function))
        return result if is_whole else None

    async def keep(self, instance: str, action: Digest, result: re_pb.ActionResult) -> None:
        """Remember a result whose blobs were stored before."""
        await self._results.put(ActionKey(instance, action), result)

    async def forget(self, instance: str, action: Digest) -> None:
        """Forget a result that turned out unusable."""
        await self._results.remove(ActionKey(instance, action))

    async def store(self, digest: Digest, data: bytes) -> None:
        """Store a blob in hand. Raises DigestMismatch and OutOfSpace."""
        await write_all(self._store, digest, data)

    async def store_file(
        self,
        digest: Digest,
        path: str,
        status: os.stat_result | None = None,
        *,
        links: bool = False,
    ) -> None:
        """Store a file's bytes. Raises DigestMismatch, OutOfSpace and OSError.

        With the file's status from before its digest was taken they are not read again, and where
        `links` allows it the file itself is stored, under a second name.
        """
        if status is not None and await self._files.adopt(digest, path, status, links=links):
            self._on_adopted()
            return

        async def chunks() -> AsyncIterator[bytes]:
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk

        await self._store.write(digest, chunks())

    async def copy_in(self, digests: Iterable[Digest], directory: str) -> set[Digest]:
        """Store blobs from another store's directory; returns those that are not to be had there.

        Raises OutOfSpace.
        """
        paths = [(digest, blob_path(directory, digest)) for digest in digests]
        lacking: set[Digest] = set()
        for at in range(0, len(paths), _AT_A_TIME):
            lacking |= await self._files.copy_in(dict(paths[at : at + _AT_A_TIME]))
        if len(lacking) < len(paths):
            self._on_adopted()
        return lacking

    async def store_all(self, blobs: Mapping[Digest, bytes | str]) -> None:
        """Store bytes in hand and files, some at a time, which the store then commits as one.

        Raises as `store_file`.
        """
        sources = list(blobs.items())
        for at in range(0, len(sources), _AT_A_TIME):
            some = sources[at : at + _AT_A_TIME]
            stores = (
                self.store(digest, source)
                if isinstance(source, bytes)
                else self.store_file(digest, source)
                for digest, source in some
            )
            for outcome in await asyncio.gather(*stores, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def store_stream(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        """Store a blob. Raises DigestMismatch, OutOfSpace and what `chunks` raises."""
        await self._store.write(digest, chunks)

    async def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that are not here, or turn out damaged now that all are looked at."""
        lacking = set()
        for digest in set(digests):
            try:
                await self._files.path_of(digest)
            except BlobNotFound:
                lacking.add(digest)
        return lacking

    async def path(self, digest: Digest) -> Path:
        """A blob's file, verified; it must not be changed. Raises BlobNotFound."""
        return await self._files.path_of(digest)

    def linked(self, digest: Digest, status: os.stat_result) -> None:
        """Note that a blob's file may have been given a second name: that has the status now."""
        self._files.linked(digest, status)

    def where(self, digest: Digest) -> str:
        """Where a blob's file is, if it is here; its bytes are to be checked when they are read."""
        return self._files.where(digest)

    async def read(self, digest: Digest) -> bytes:
        """A small blob. Raises BlobNotFound."""
        if digest.size == 0:
            return b""
        path = await self.path(digest)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise BlobNotFound(digest) from None

    async def said(self, raw: bytes, digest: re_pb.Digest, function: DigestFunction) -> bytes:
        """One of a result's two streams, which is in the result or a blob. Raises BlobNotFound."""
        if raw or not digest.hash:
            return raw
        return await self.read(Digest.from_message(digest, function))


def named_blobs(result: re_pb.ActionResult, function: DigestFunction) -> list[Digest]:
    """The blobs that a compile's result names: output files, stdout, stderr."""
    messages = [file.digest for file in result.output_files]
    for raw, digest in (
        (result.stdout_raw, result.stdout_digest),
        (result.stderr_raw, result.stderr_digest),
    ):
        if not raw and digest.hash:
            messages.append(digest)
    return [Digest.from_message(message, function) for message in messages]


def is_made_here(result: re_pb.ActionResult) -> bool:
    """Whether a result was made on a developer's machine."""
    return result.execution_metadata.worker in (_KEPT_HERE, _KEPT_FOR_HERE)


def is_shared(result: re_pb.ActionResult) -> bool:
    """Whether servers may have a result."""
    return result.execution_metadata.worker != _KEPT_FOR_HERE


def stamp_made_here(
    result: re_pb.ActionResult, started_ns: int, ended_ns: int, *, shares: bool = True
) -> None:
    """Say that a developer's machine made a result, when, and whether servers may have it."""
    metadata = result.execution_metadata
    metadata.worker = _KEPT_HERE if shares else _KEPT_FOR_HERE
    metadata.execution_start_timestamp.FromNanoseconds(started_ns)
    metadata.execution_completed_timestamp.FromNanoseconds(ended_ns)
