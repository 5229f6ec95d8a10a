"""Reading the Directories of an input root, and remembering them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from remote_apis.merkle import parse_directory as decode
from worker.parsed_directory import ParsedDirectory, parse_directory


class DirectoryReader:
    """Reads whole trees level by level; Directories seen before cost no call.

    `max_bytes` bounds the encoded size of what is remembered.
    """

    def __init__(self, *, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[Digest, ParsedDirectory] = OrderedDict()
        self._bytes = 0

    async def read_tree(self, root: Digest, cas: CasClient) -> Mapping[Digest, ParsedDirectory]:
        """All Directories reachable from `root`, each once.

        Raises MissingBlobs with those of the first level that has absent ones, InvalidRequest
        when one is malformed.
        """
        tree: dict[Digest, ParsedDirectory] = {}
        level = {root}
        while level:
            absent = [digest for digest in level if digest not in self._known]
            contents = await cas.read_many(absent) if absent else {}
            following: set[Digest] = set()
            for digest in level:
                directory = self._known.get(digest)
                if directory is None:
                    content = contents.get(digest)
                    if content is None:
                        # Forgotten by another slot's reading since the call began.
                        content = await cas.read(digest)
                    directory = parse_directory(decode(content), root.function)
                    self._remember(digest, directory)
                else:
                    self._known.move_to_end(digest)
                tree[digest] = directory
                following.update(child for _, child in directory.directories)
            level = following - tree.keys()
        return tree

    def _remember(self, digest: Digest, directory: ParsedDirectory) -> None:
        if digest not in self._known:
            self._known[digest] = directory
            self._bytes += digest.size
        while self._bytes > self._max_bytes and len(self._known) > 1:
            old, _ = self._known.popitem(last=False)
            self._bytes -= old.size
