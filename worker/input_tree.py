"""An input root as a tree of directories, before and after it is on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from worker.cached_file import CachedFile
from worker.parsed_directory import ParsedDirectory

MAX_ENTRIES = 2_000_000
"""A few Directories can spell a tree without end; such trees are refused."""


class InputNode:
    """A directory of an input root, with all below it.

    `entries` and `bytes` are totals; `is_plain`: nothing in it has properties of its own. Once
    made on the disk, `inode` and `ctime_ns` are those of the directory: as long as they do not
    change, no entry was added, removed or replaced in it.
    """

    __slots__ = ("bytes", "children", "ctime_ns", "digest", "directory", "entries", "inode",
                 "is_plain")  # fmt: skip

    def __init__(self, digest: Digest, directory: ParsedDirectory) -> None:
        self.digest = digest
        self.directory = directory
        self.children: list[tuple[str, InputNode]] = []
        self.entries = 0
        self.bytes = 0
        self.is_plain = True
        self.inode = 0
        self.ctime_ns = 0

    def walk(self, path: str) -> Iterator[tuple[str, InputNode]]:
        """This and all below, parents first, each with its path; `path` is that of this one."""
        stack = [(path, self)]
        while stack:
            here, node = stack.pop()
            yield here, node
            stack.extend((f"{here}/{name}", child) for name, child in node.children)

    def files(self) -> Iterator[CachedFile]:
        """The blobs of all shared files in it."""
        for _, node in self.walk(""):
            for _, file in node.directory.files:
                yield file


def is_file_system(top: InputNode) -> bool:
    """Whether an input root brings its own programs: it has a shell where systems have theirs.

    BuildStream's actions do, and expect to see their input root as `/`. REAPI has no word for it.
    """
    return any(_has(top, path) for path in (("bin", "sh"), ("usr", "bin", "sh")))


def set_apart(top: InputNode, path: str) -> None:
    """Mark a directory and all below it, and above, as not to be shared with other actions."""
    here = top
    for name in path.split("/"):
        here.is_plain = False
        below = dict(here.children).get(name)
        if below is None:
            return
        here = below
    for _, node in here.walk(""):
        node.is_plain = False


def _has(top: InputNode, path: tuple[str, ...]) -> bool:
    here = top
    for name in path[:-1]:
        below = dict(here.children).get(name)
        if below is None:
            return False
        here = below
    directory = here.directory
    names = [name for name, _ in directory.files] + [name for name, _, _ in directory.symlinks]
    return path[-1] in names


def build_tree(
    root: Digest, tree: Mapping[Digest, ParsedDirectory], *, allow_absolute_symlinks: bool
) -> InputNode:
    """The whole tree below `root`. Raises InvalidRequest when it is too large to be made."""
    _check_size(root, tree)
    top = InputNode(root, tree[root])
    pending = [top]
    ordered = []
    while pending:
        node = pending.pop()
        ordered.append(node)
        if node.directory.has_absolute_symlinks and not allow_absolute_symlinks:
            raise InvalidRequest("the input root holds an absolute symbolic link: not allowed here")
        for name, digest in node.directory.directories:
            child = InputNode(digest, tree[digest])
            node.children.append((name, child))
            pending.append(child)
    for node in reversed(ordered):  # children before their parents
        own = node.directory
        below = [child for _, child in node.children]
        node.entries = own.entries + sum(child.entries for child in below)
        node.bytes = sum(file.digest.size for _, file in own.files)
        node.bytes += sum(child.bytes for child in below)
        node.is_plain = own.is_plain and all(child.is_plain for child in below)
    return top


def _check_size(root: Digest, tree: Mapping[Digest, ParsedDirectory]) -> None:
    """Count without spelling out: each Directory once, however often it occurs."""
    totals: dict[Digest, int] = {}
    stack = [root]
    while stack:
        digest = stack[-1]
        directory = tree[digest]
        waiting = [child for _, child in directory.directories if child not in totals]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        below = sum(totals[child] for _, child in directory.directories)
        totals[digest] = directory.entries + below
        if totals[digest] > MAX_ENTRIES:
            raise InvalidRequest(f"the input root has more than {MAX_ENTRIES} entries")
