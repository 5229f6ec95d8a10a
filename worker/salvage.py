"""After an action: what of its input root is as it was, and can serve the next one."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from worker.blob_cache import BlobCache
from worker.cached_file import CachedFile
from worker.input_tree import InputNode
from worker.tree_pool import PooledTree, TreePool

_TICK_NS = 20_000_000
"""File systems stamp with a clock that ticks every 10 ms at worst: two changes within one tick
have the same ctime."""


@dataclass(slots=True)
class Salvage:
    """The outcome of a check: trees to keep, by their paths, and blobs found altered."""

    trees: list[tuple[str, InputNode]] = field(default_factory=list)
    altered: set[CachedFile] = field(default_factory=set)


class Checker:
    """Compares an input root with what was made.

    `started_ns` is when the command started. With `files_are_safe` the action had no right to
    alter the files, only to replace them in its directories.
    """

    def __init__(
        self, cache: BlobCache, pool: TreePool, *, started_ns: int, files_are_safe: bool
    ) -> None:
        self._cache = cache
        self._pool = pool
        self._started_ns = started_ns
        self._files_are_safe = files_are_safe

    def check(self, root: str, node: InputNode) -> Salvage:
        """Look at every directory, and at every file where the action could alter it. Blocks."""
        found = Salvage()
        clean: dict[int, bool] = {}
        nodes = list(node.walk(root))
        for path, here in reversed(nodes):  # children before their parents
            own = self._is_untouched(path, here, found)
            clean[id(here)] = own and all(clean[id(child)] for _, child in here.children)
        pending = [(root, node)]
        while pending:
            path, here = pending.pop()
            if clean[id(here)] and self._pool.wants_whole(here):
                found.trees.append((path, here))
            else:
                pending.extend((f"{path}/{name}", child) for name, child in here.children)
        return found

    def _is_untouched(self, path: str, node: InputNode, found: Salvage) -> bool:
        try:
            status = os.lstat(path)
        except OSError:
            status = None
        same = (
            status is not None
            and stat.S_ISDIR(status.st_mode)
            and (status.st_ino, status.st_ctime_ns) == (node.inode, node.ctime_ns)
        )
        if same and node.ctime_ns > self._started_ns - _TICK_NS:
            same = self._has_same_entries(path, node)
        if not self._files_are_safe:
            same = self._files_are_intact(path if same else None, node, found) and same
        return same

    def _has_same_entries(self, path: str, node: InputNode) -> bool:
        """Name by name, and inode by inode: the ctime alone does not tell so soon."""
        directory = node.directory
        expected = {name: child.inode for name, child in node.children}
        for name, file in directory.files:
            try:
                expected[name] = os.lstat(self._cache.place(file)).st_ino
            except OSError:
                return False
        links = {name: target for name, target, _ in directory.symlinks}
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    if links.pop(entry.name, None) != os.readlink(entry.path):
                        return False
                elif expected.pop(entry.name, None) != entry.inode():
                    return False
        return not expected and not links

    def _files_are_intact(self, path: str | None, node: InputNode, found: Salvage) -> bool:
        """Look at the inodes, by the action's names if these are still theirs, else the cache's."""
        intact = True
        if not node.is_plain:
            path = None  # what is there may be a copy, which the action may do with as it likes
        for name, file in node.directory.files:
            try:
                status = os.lstat(f"{path}/{name}" if path else self._cache.place(file))
            except OSError:
                intact = False
                continue
            if not file.is_intact(status):
                found.altered.add(file)
                intact = False
        return intact


def move_out(salvage: Salvage, pool: TreePool) -> list[PooledTree]:
    """Move what was found out of the action's directory, ready for the pool. Blocks."""
    trees = []
    for path, node in salvage.trees:
        target = pool.new_path()
        Path(path).rename(target)
        node.ctime_ns = target.lstat().st_ctime_ns  # the move changed it
        trees.append(PooledTree(path=target, node=node))
    return trees
