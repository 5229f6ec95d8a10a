"""Reading the Directory messages of an input root, and remembering them."""

from __future__ import annotations

from collections import OrderedDict

from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from remote_apis.merkle import parse_directory
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb


class DirectoryReader:
    """Reads whole trees level by level; Directories seen before cost no call.

    `max_bytes` bounds the encoded size of what is remembered.
    """

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[Digest, re_pb.Directory] = OrderedDict()
        self._bytes = 0

    async def read_tree(self, root: Digest, cas: CasClient) -> dict[Digest, re_pb.Directory]:
        """All Directories reachable from `root`, each once.

        Raises MissingBlobs with those of the first level that has absent ones, InvalidRequest
        when one cannot be decoded.
        """
        tree: dict[Digest, re_pb.Directory] = {}
        level = {root}
        while level:
            absent = [digest for digest in level if digest not in self._known]
            contents = await cas.read_many(absent) if absent else {}
            following: set[Digest] = set()
            for digest in level:
                directory = self._known.get(digest)
                if directory is None:
                    directory = parse_directory(contents[digest])
                    self._remember(digest, directory)
                else:
                    self._known.move_to_end(digest)
                tree[digest] = directory
                for child in directory.directories:
                    following.add(Digest.from_message(child.digest, root.function))
            level = following - tree.keys()
        return tree

    def _remember(self, digest: Digest, directory: re_pb.Directory) -> None:
        self._known[digest] = directory
        self._bytes += digest.size
        while self._bytes > self._max_bytes:
            old, _ = self._known.popitem(last=False)
            self._bytes -= old.size
