"""Hands out only those results whose blobs are all there, and keeps these from being evicted."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound, InvalidRequest
from remote_apis.merkle import MAX_DIRECTORY_BYTES, directories_of_tree, parse_directory
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionCache, ActionKey
from server.blobstore.interface import BlobStore, read_all, reading

_LOG = logging.getLogger(__name__)
_BATCH = 20_000
"""Digests asked for at once: in practice all of them, while huge trees stay flat in memory."""
_MAX_DIRECTORIES = 1_000_000


class CompletenessCheckingActionCache:
    """Decorates an action cache: a result with anything missing is not returned.

    Everything that a result refers to, through Trees and Directories as well, is asked for with
    `find_missing`, which also extends its lifetime (REAPI 2.12 GetActionResult).
    """

    def __init__(self, inner: ActionCache, blobs: BlobStore) -> None:
        self._inner = inner
        self._blobs = blobs

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        result = await self._inner.get(key)
        if result is None:
            return None
        try:
            missing = await first_missing(result, key.digest.function, self._blobs)
        except InvalidRequest as error:
            _LOG.warning("the result of action %s is malformed: %s", key.digest, error)
            return None
        if missing is not None:
            _LOG.info("the result of action %s lacks blob %s", key.digest, missing)
            return None
        return result

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        await self._inner.put(key, result)

    async def remove(self, key: ActionKey) -> None:
        await self._inner.remove(key)


async def first_missing(
    result: re_pb.ActionResult, function: DigestFunction, blobs: BlobStore
) -> Digest | None:
    """A blob that the result refers to and that is missing, or None when all are there.

    Raises InvalidRequest when the result, or a Tree or Directory in it, is malformed.
    """
    batch: set[Digest] = set()
    try:
        async for digest in _referenced(result, function, blobs):
            batch.add(digest)
            if len(batch) >= _BATCH:
                for missing in await blobs.find_missing(batch):
                    return missing
                batch.clear()
    except BlobNotFound as error:
        return error.digest
    for missing in await blobs.find_missing(batch):
        return missing
    return None


async def _referenced(
    result: re_pb.ActionResult, function: DigestFunction, blobs: BlobStore
) -> AsyncIterator[Digest]:
    for file in result.output_files:
        yield Digest.from_message(file.digest, function)
    for name in ("stdout_digest", "stderr_digest"):
        if result.HasField(name):
            yield Digest.from_message(getattr(result, name), function)
    visited: set[Digest] = set()
    for directory in result.output_directories:
        if directory.HasField("tree_digest"):
            tree = Digest.from_message(directory.tree_digest, function)
            yield tree
            async for digest in _inside_tree(tree, blobs):
                yield digest
        if directory.HasField("root_directory_digest"):
            root = Digest.from_message(directory.root_directory_digest, function)
            async for digest in _below_directory(root, blobs, visited):
                yield digest
        elif not directory.HasField("tree_digest"):
            raise InvalidRequest(f"output directory {directory.path!r} has no digest")


async def _inside_tree(tree: Digest, blobs: BlobStore) -> AsyncIterator[Digest]:
    async with reading(blobs, tree) as chunks:
        async for directory in directories_of_tree(chunks):
            for file in directory.files:
                yield Digest.from_message(file.digest, tree.function)


async def _below_directory(
    root: Digest, blobs: BlobStore, visited: set[Digest]
) -> AsyncIterator[Digest]:
    waiting = [root]
    while waiting:
        digest = waiting.pop()
        if digest in visited:
            continue
        visited.add(digest)
        if len(visited) > _MAX_DIRECTORIES or digest.size > MAX_DIRECTORY_BYTES:
            raise InvalidRequest(f"output directory is too large at {digest}")
        yield digest
        directory = parse_directory(await read_all(blobs, digest))
        for file in directory.files:
            yield Digest.from_message(file.digest, digest.function)
        waiting += [Digest.from_message(d.digest, digest.function) for d in directory.directories]
