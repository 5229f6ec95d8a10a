"""Is everything there that an action needs? Walks input roots."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, InvalidRequest
from remote_apis.merkle import check_directory, parse_directory
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all
from server.rpc.execution_checks import ExecutionLimits

_BATCH = 4096
_READS = 16
_REMEMBERED = 200_000


class InputRoots:
    """Checks input roots, each distinct directory once.

    A walk holds the digests of the directories that it has seen, and of files at most a batch.
    Directories found complete are remembered for `limits.verified_for` seconds.
    """

    def __init__(
        self,
        store: BlobStore,
        limits: ExecutionLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._complete: OrderedDict[Digest, float] = OrderedDict()

    async def missing(self, root: Digest) -> list[Digest]:
        """All blobs of the input root that are not in the store, in a stable order.

        What lies below a missing directory cannot be known. Lifetimes of the others are extended.
        Raises InvalidRequest when a directory is malformed, or there are too many or too deep.
        """
        walk = _Walk(self._store, self._limits)
        started = self._clock()
        level = self._unknown([root], walk, started)
        for _ in range(self._limits.max_depth + 1):
            children: list[Digest] = []
            for start in range(0, len(level), _READS):
                batch = level[start : start + _READS]
                directories = await asyncio.gather(*map(walk.read, batch))
                for digest, directory in zip(batch, directories, strict=True):
                    if directory is not None:
                        children += await walk.take(digest, directory)
            level = self._unknown(children, walk, started)
            if not level:
                break
        else:
            raise InvalidRequest(
                f"input root {root} is more than {self._limits.max_depth} directories deep"
            )
        missing = await walk.finish()
        if not missing:
            self._remember(walk.seen, started)
        return missing

    async def has_directory(self, root: Digest, path: str) -> bool:
        """Whether `path` (normal, relative) is or may be a directory of the input root.

        A symbolic link on the way may lead to one, a missing blob may hold one. Raises
        InvalidRequest.
        """
        digest = root
        for segment in path.split("/") if path else ():
            try:
                directory = parse_directory(await read_all(self._store, digest))
            except BlobNotFound:
                return True
            if any(link.name == segment for link in directory.symlinks):
                return True
            child = next((d for d in directory.directories if d.name == segment), None)
            if child is None:
                return False
            digest = Digest.from_message(child.digest, root.function)
        return True

    def _unknown(self, digests: Iterable[Digest], walk: _Walk, now: float) -> list[Digest]:
        unknown = []
        for digest in digests:
            if digest in walk.seen:
                continue
            if self._complete.get(digest, float("-inf")) > now - self._limits.verified_for:
                continue
            walk.see(digest)
            unknown.append(digest)
        return unknown

    def _remember(self, digests: Iterable[Digest], now: float) -> None:
        for digest in digests:
            self._complete[digest] = now
            self._complete.move_to_end(digest)
        while len(self._complete) > _REMEMBERED:
            self._complete.popitem(last=False)


class _Walk:
    """One walk's state."""

    def __init__(self, store: BlobStore, limits: ExecutionLimits) -> None:
        self.seen: set[Digest] = set()
        self._store = store
        self._limits = limits
        # Asked for in one go: it extends lifetimes, of directories too.
        self._batch: dict[Digest, None] = {}
        self._missing: dict[Digest, None] = {}

    def see(self, digest: Digest) -> None:
        if digest.size > self._limits.max_message_bytes:
            raise InvalidRequest(f"input directory {digest} is too large")
        self.seen.add(digest)
        if len(self.seen) > self._limits.max_directories:
            raise InvalidRequest(
                f"the input root has more than {self._limits.max_directories} directories"
            )

    async def read(self, digest: Digest) -> re_pb.Directory | None:
        """One directory; None, and a note, when it is missing."""
        try:
            data = await read_all(self._store, digest)
        except BlobNotFound:
            self._missing[digest] = None
            return None
        directory = parse_directory(data)
        try:
            check_directory(directory, digest.function)
        except InvalidRequest as error:
            raise InvalidRequest(f"input directory {digest}: {error}") from error
        return directory

    async def take(self, digest: Digest, directory: re_pb.Directory) -> list[Digest]:
        """Note what a directory holds; returns its subdirectories."""
        if not self._limits.allow_absolute_symlinks:
            for link in directory.symlinks:
                if link.target.startswith("/"):
                    raise InvalidRequest(
                        f"input directory {digest}: symlink {link.name!r} has the absolute target "
                        f"{link.target[:160]!r}, which this server does not allow"
                    )
        self._batch[digest] = None
        for file in directory.files:
            self._batch[Digest.from_message(file.digest, digest.function)] = None
            if len(self._batch) >= _BATCH:
                await self._ask()
        return [Digest.from_message(d.digest, digest.function) for d in directory.directories]

    async def finish(self) -> list[Digest]:
        """All that is missing."""
        await self._ask()
        return list(self._missing)

    async def _ask(self) -> None:
        asked, self._batch = self._batch, {}
        missing = await self._store.find_missing(asked.keys())
        self._missing.update((digest, None) for digest in asked if digest in missing)
