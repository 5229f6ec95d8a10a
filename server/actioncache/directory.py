"""An ActionCache of files in a directory: for a cache of one user, with no database to open."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey

_CHECKSUM = 32


class DirectoryActionCache:
    """Results as files `<root>/<instance's hash>/<function>/<hash>-<size>`, set by rename.

    Results are small, so the calls block for tens of microseconds and make no executor hop. A
    file begins with the SHA-256 of its rest: one that a crash of the machine cut is no result.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        """The result, or None."""
        try:
            data = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data[_CHECKSUM:]).digest() != data[:_CHECKSUM]:
            return None
        return re_pb.ActionResult.FromString(data[_CHECKSUM:])

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        """Store or replace the result. Raises OSError."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                data = result.SerializeToString()
                file.write(hashlib.sha256(data).digest() + data)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    async def remove(self, key: ActionKey) -> None:
        """Forget the result, if there is one."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: ActionKey) -> Path:
        instance = hashlib.sha256(key.instance.encode()).hexdigest()[:16]
        digest = key.digest
        name = f"{digest.hash}-{digest.size}"
        return self._root / instance / digest.function.label / name
