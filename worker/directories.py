"""Reading the Directories of an input root, and remembering them."""

from __future__ import annotations

from collections.abc import Mapping

from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from remote_apis.merkle import parse_directory as decode
from worker.parsed_directory import ParsedDirectory, parse_directory
from worker.remembered import Remembered

_MAX_BYTES = 32 * 1024 * 1024


class DirectoryReader:
    """Reads whole trees level by level; Directories seen before cost no call.

    `max_bytes` bounds the encoded size of what is remembered.
    """

    def __init__(self, *, max_bytes: int = _MAX_BYTES) -> None:
        self._known: Remembered[ParsedDirectory] = Remembered(max_bytes=max_bytes)

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._known

    def learn(self, digest: Digest, content: bytes) -> ParsedDirectory:
        """Remember a Directory that was read. Raises InvalidRequest when it is malformed."""
        directory = parse_directory(decode(content), digest.function)
        self._known.put(digest, directory)
        return directory

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
                    directory = self.learn(digest, content)
                tree[digest] = directory
                following.update(child for _, child in directory.directories)
            level = following - tree.keys()
        return tree
