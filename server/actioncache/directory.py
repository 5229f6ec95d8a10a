"""An ActionCache of files in a directory: for a cache of one user, with no database to open."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from google.protobuf.message import DecodeError

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey


class DirectoryActionCache:
    """Results as files `<root>/<instance hash or _>/<hh>/<hash>-<size>`, replaced by rename.

    Results are small, so the calls block for tens of microseconds and make no executor hop. A
    file that is not an ActionResult, left by a crash of the machine, counts as no result.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        """The result, or None."""
        try:
            return re_pb.ActionResult.FromString(self._path(key).read_bytes())
        except (FileNotFoundError, DecodeError):
            return None

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        """Store or replace the result. Raises OSError."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(result.SerializeToString())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    async def remove(self, key: ActionKey) -> None:
        """Forget the result, if there is one."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: ActionKey) -> Path:
        instance = key.instance.encode().hex() or "_"
        digest = key.digest
        name = f"{digest.hash}-{digest.size}"
        return self._root / instance / digest.function.label / digest.hash[:2] / name
