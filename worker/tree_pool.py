"""Directories of finished actions, kept for the next action that needs the same ones."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from remote_apis.digest import Digest
from worker.input_tree import InputNode
from worker.removal import remove_tree

MIN_ENTRIES = 8
"""Smaller directories are linked anew as quickly as they are moved and checked."""
_MAX_SEEN = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTree:
    """A directory on the disk that holds exactly what `node` says."""

    path: Path
    node: InputNode


class TreePool:
    """Trees by digest, each used by one action at a time; the oldest go when there are too many.

    A tree is put in only after a check that the action left it as it was (see
    `worker.salvage`). `max_entries` and `max_bytes` count every tree as if it shared nothing.
    """

    def __init__(self, directory: Path, *, max_entries: int, max_bytes: int) -> None:
        self._directory = directory
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._trees: OrderedDict[Path, PooledTree] = OrderedDict()
        self._by_digest: dict[Digest, list[PooledTree]] = {}
        self._entries = 0
        self._bytes = 0
        self._names = itertools.count()
        self._seen: OrderedDict[Digest, int] = OrderedDict()

    def open(self) -> None:
        """Start empty. Raises OSError."""
        remove_tree(self._directory)
        self._directory.mkdir(parents=True, exist_ok=True)

    @property
    def entries(self) -> int:
        """Files, links and directories in all trees."""
        return self._entries

    def take(self, node: InputNode) -> PooledTree | None:
        """A tree like `node`, no longer in the pool; None when there is none."""
        if not is_worth_it(node):
            return None
        self._seen[node.digest] = self._seen.pop(node.digest, 0) + 1
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        trees = self._by_digest.get(node.digest)
        if not trees:
            return None
        tree = trees[-1]
        self._forget(tree)
        return tree

    def wants_whole(self, node: InputNode) -> bool:
        """Whether the tree is to be kept as one, and not its larger parts each by itself.

        As one only when it was asked for before: otherwise the next action, in which one file
        differs, would find nothing.
        """
        if not is_worth_it(node):
            return False
        if self._seen.get(node.digest, 0) > 1:
            return True
        return not any(is_worth_it(child) for _, child in node.children)

    def new_path(self) -> Path:
        """Where to move the next tree."""
        return self._directory / str(next(self._names))

    def put(self, tree: PooledTree) -> list[Path]:
        """Keep a tree. Returns the directories of those that had to go for it, to be removed."""
        self._trees[tree.path] = tree
        self._by_digest.setdefault(tree.node.digest, []).append(tree)
        self._entries += tree.node.entries
        self._bytes += tree.node.bytes
        gone = []
        while self._entries > self._max_entries or self._bytes > self._max_bytes:
            oldest = next(iter(self._trees.values()))
            self._forget(oldest)
            gone.append(oldest.path)
        return gone

    def _forget(self, tree: PooledTree) -> None:
        del self._trees[tree.path]
        trees = self._by_digest[tree.node.digest]
        trees.remove(tree)
        if not trees:
            del self._by_digest[tree.node.digest]
        self._entries -= tree.node.entries
        self._bytes -= tree.node.bytes


def is_worth_it(node: InputNode) -> bool:
    """Whether a directory can be kept, and is large enough."""
    return node.is_plain and node.entries >= MIN_ENTRIES
