"""From a list of paths, with the files' bytes in one file, to a Merkle tree in the store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.merkle import check_name
from remote_apis.tree_builder import TreeBuilder
from server.asset.errors import OriginError, Reason
from server.blobstore.interface import CHUNK_SIZE, BlobStore, write_all

_Write = Callable[[], Coroutine[object, object, None]]
_AT_ONCE = 128
"""Blobs under way into the store together: their commits share syncs."""
_MAX_DEPTH = 200


class EntryKind(Enum):
    """What stands at a path."""

    FILE = "file"
    SYMLINK = "symlink"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """A path with slashes, relative. A file's bytes are at `offset` of the content."""

    path: str
    kind: EntryKind
    offset: int = 0
    size: int = 0
    is_executable: bool = False
    target: str = ""


def below(entries: Iterable[TreeEntry], directory: str) -> list[TreeEntry]:
    """The entries in a subdirectory, with their paths in it. Raises OriginError NOT_FOUND."""
    prefix = directory.strip("/") + "/"
    found = [entry for entry in entries if (entry.path + "/").startswith(prefix)]
    if not found or any(
        entry.path + "/" == prefix and entry.kind is not EntryKind.DIRECTORY for entry in found
    ):
        raise OriginError(Reason.NOT_FOUND, f"there is no directory {directory[:300]!r} in it")
    return [
        replace(entry, path=entry.path[len(prefix) :])
        for entry in found
        if entry.path + "/" != prefix
    ]


async def store_tree(
    entries: Sequence[TreeEntry], content: Path, function: DigestFunction, store: BlobStore
) -> Digest:
    """Store files and Directories; the root's digest. Raises OriginError, and as a write does.

    An entry whose path cannot be in a Directory makes the whole of no use (ABORTED).
    """
    files = [entry for entry in entries if entry.kind is EntryKind.FILE]
    digests = await asyncio.to_thread(_digests, files, content, function)
    places = {digest: entry.offset for digest, entry in zip(digests, files, strict=True)}
    missing = await store.find_missing(places)
    descriptor = os.open(content, os.O_RDONLY)
    try:
        await _gather(
            [partial(_copy, descriptor, places[digest], digest, store) for digest in missing]
        )
    finally:
        os.close(descriptor)
    directories: dict[Digest, bytes] = {}
    root = await asyncio.to_thread(_build, entries, digests, function, directories)
    missing = await store.find_missing(directories)
    await _gather([partial(write_all, store, digest, directories[digest]) for digest in missing])
    return root


async def _gather(writes: Sequence[_Write]) -> None:
    for start in range(0, len(writes), _AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for write in writes[start : start + _AT_ONCE]:
                group.create_task(write())


async def _copy(descriptor: int, offset: int, digest: Digest, store: BlobStore) -> None:
    await store.write(digest, _part(descriptor, offset, digest.size))


async def _part(descriptor: int, offset: int, size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, CHUNK_SIZE):
        yield os.pread(descriptor, min(CHUNK_SIZE, size - start), offset + start)


def _digests(files: Collection[TreeEntry], content: Path, function: DigestFunction) -> list[Digest]:
    digests = []
    with content.open("rb") as file:
        for entry in files:
            hasher = function.hasher(entry.size)
            file.seek(entry.offset)
            for start in range(0, entry.size, CHUNK_SIZE):
                hasher.update(file.read(min(CHUNK_SIZE, entry.size - start)))
            digests.append(Digest(function, hasher.hexdigest(), entry.size))
    return digests


def _build(
    entries: Iterable[TreeEntry],
    digests: Iterable[Digest],
    function: DigestFunction,
    directories: dict[Digest, bytes],
) -> Digest:
    builder = TreeBuilder(function)
    next_digest = iter(digests)
    try:
        for entry in entries:
            _check_path(entry.path)
            if entry.kind is EntryKind.FILE:
                executable = entry.is_executable
                builder.add_file(entry.path, next(next_digest), executable=executable)
            elif entry.kind is EntryKind.DIRECTORY:
                builder.make_directory(entry.path)
            else:
                builder.add_symlink(entry.path, _checked_target(entry))
        return builder.build(directories)
    except InvalidRequest as error:
        raise OriginError(Reason.ABORTED, f"its files make no tree: {error}") from error


def _check_path(path: str) -> None:
    segments = path.split("/")
    if len(segments) > _MAX_DEPTH:
        raise InvalidRequest(f"{path[:160]!r} is more than {_MAX_DEPTH} levels deep")
    for segment in segments:
        _check_text(check_name(segment))


def _checked_target(entry: TreeEntry) -> str:
    if not entry.target or "\0" in entry.target:
        raise InvalidRequest(f"symlink {entry.path[:160]!r} has no usable target")
    return _check_text(entry.target)


def _check_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{text[:160]!r} is not UTF-8") from None
    return text
