"""GetTree: a walk that stays flat in memory whatever the tree looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, InvalidRequest, OutOfSpace
from remote_apis.merkle import MAX_DIRECTORY_BYTES, check_entries, parse_directory
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all

_MAX_PAGE_DIRECTORIES = 1000
_MAX_PAGE_BYTES = 1024 * 1024
_MAX_DIRECTORIES = 1_000_000
_MAX_DEPTH = 10_000
"""No file system takes paths of so many segments."""


async def tree_pages(
    store: BlobStore, root: Digest, *, page_size: int, page_token: str
) -> AsyncIterator[re_pb.GetTreeResponse]:
    """Every Directory at or below `root`, each digest once, in pages; the last has no token.

    A token says how many Directories came before; the walk's order depends on the content alone.
    Raises InvalidRequest, BlobNotFound when the root is absent, OutOfSpace when there are too
    many Directories. Missing subtrees are left out (REAPI 2.12 GetTree).
    """
    if page_size < 0:
        raise InvalidRequest(f"page size {page_size} is negative")
    most = min(page_size or _MAX_PAGE_DIRECTORIES, _MAX_PAGE_DIRECTORIES)
    skip = _parse_token(page_token, root)
    page = re_pb.GetTreeResponse()
    page_bytes = count = 0
    async for directory in _walk(store, root):
        if count < skip:
            count += 1
            continue
        size = directory.ByteSize()
        if page.directories and (
            len(page.directories) >= most or page_bytes + size > _MAX_PAGE_BYTES
        ):
            page.next_page_token = f"{root.hash}:{count}"
            yield page
            page = re_pb.GetTreeResponse()
            page_bytes = 0
        page.directories.append(directory)
        page_bytes += size
        count += 1
    if count < skip:
        raise InvalidRequest(f"page token {page_token!r} lies beyond the end of the tree")
    yield page


def _parse_token(token: str, root: Digest) -> int:
    if not token:
        return 0
    hash_, _, count = token.partition(":")
    if hash_ != root.hash or not (count.isascii() and count.isdigit() and len(count) < 10):
        raise InvalidRequest(f"page token {token[:160]!r} does not belong to tree {root}")
    return int(count)


async def _walk(store: BlobStore, root: Digest) -> AsyncIterator[re_pb.Directory]:
    seen = {_packed(root)}
    waiting = [(root, 1)]
    while waiting:
        digest, depth = waiting.pop()
        if digest.size > MAX_DIRECTORY_BYTES:
            raise InvalidRequest(f"directory {digest} is larger than {MAX_DIRECTORY_BYTES} bytes")
        try:
            directory = parse_directory(await read_all(store, digest))
        except BlobNotFound:
            if digest is root:
                raise
            continue
        check_entries(directory, digest.function)
        yield directory
        if directory.directories and depth >= _MAX_DEPTH:
            raise InvalidRequest(f"tree {root} is more than {_MAX_DEPTH} levels deep")
        for child in reversed(directory.directories):
            below = Digest.from_message(child.digest, digest.function)
            if _packed(below) not in seen:
                seen.add(_packed(below))
                waiting.append((below, depth + 1))
        if len(seen) > _MAX_DIRECTORIES:
            raise OutOfSpace(f"tree {root} has more than {_MAX_DIRECTORIES} directories")


def _packed(digest: Digest) -> bytes:
    """A third of a Digest's memory."""
    return bytes.fromhex(digest.hash) + digest.size.to_bytes(8, "big")
