"""Snapshots of directories: everything in them as a Merkle tree, with where each blob is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.tree_builder import TreeBuilder
from wrapper.build_scripts.names import is_below
from wrapper.inputs.file_digests import FileDigests

MAX_FILES = 20_000
NOTES = (".pc", ".la", ".cmake", ".log", ".d")
NOTE_FILES = ("CMakeCache.txt", "Makefile")
"""Ends and names of other build systems' notes, which hold the paths of where they were made."""

_NOT_FOR_RUSTC = (*NOTE_FILES, "CMakeFiles", "probe")
Source = bytes | str
"""Where a blob is: its bytes, or the path of a file that holds them."""


class NotSendable(Exception):
    """The directory cannot be sent, or has more files than are worth it; the message says so."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A directory as it was: its root digest and the sources of all blobs below it.

    `left_out` are the real paths of directories and links that are no part of it.
    """

    root: Digest
    blobs: dict[Digest, Source] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


Skip = Callable[[os.DirEntry[str]], bool]
"""True leaves an entry out."""


def is_left_out(name: str) -> bool:
    """Whether what has this name is no part of a package, whatever it is."""
    return name in (".git", ".hg", ".jj", "node_modules") or name.endswith(".profraw")


def skip_in_package(target: str) -> Skip:
    """Version control, target directories and what a program compiled for coverage leaves where it
    ran are no part of a package; `target` is the build's own.

    Packages inside of a package stay: a macro may well read them.
    """

    def skip(entry: os.DirEntry[str]) -> bool:
        if is_left_out(entry.name):
            return True
        if not entry.is_dir():
            return False
        return entry.path == target or os.path.exists(f"{entry.path}/CACHEDIR.TAG")

    return skip


def skip_in_out_dir(entry: os.DirEntry[str]) -> bool:
    """Build scripts leave behind the results of compiler probes, which differ between runs, and
    notes of other build systems, which hold the paths of where they were made.

    A compile that reads one of these all the same is not kept: dep-info names it.
    """
    return entry.name in _NOT_FOR_RUSTC or entry.name.endswith((*NOTES, ".rmeta"))


def skip_nothing(entry: os.DirEntry[str]) -> bool:
    """Take every entry."""
    return False


def take_snapshot(root: str, files: FileDigests, skip: Skip) -> Snapshot:
    """Walk a directory. Raises OSError, or NotSendable beyond 20,000 files or for odd names.

    A symbolic link that stays within what is taken is kept as one; one that leads out of it to a
    file becomes that file, and one that leads out to a directory, or to nothing, is left out.
    """
    return _Walk(root, files, skip).take()


class _Walk:
    """One walk, and what it has found."""

    def __init__(self, root: str, files: FileDigests, skip: Skip) -> None:
        self._root = root
        self._files = files
        self._skip = skip
        self._builder = TreeBuilder(files.function)
        self._blobs: dict[Digest, Source] = {}
        self._left_out: list[str] = []
        self._links: list[tuple[str, os.DirEntry[str]]] = []
        self._pending = [(root, "")]
        self._count = 0

    def take(self) -> Snapshot:
        """See `take_snapshot`."""
        while self._pending:
            directory, prefix = self._pending.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    if self._skip(entry):
                        self._left_out.append(entry.path)
                        continue
                    path = prefix + entry.name
                    if not is_text(path):
                        raise NotSendable(f"{directory} has a file whose name is not UTF-8")
                    self._take(path, entry)
            if self._count > MAX_FILES:
                raise NotSendable(f"{self._root} has more than {MAX_FILES} files")
        for path, entry in self._links:  # now it is known what is left out
            if _stays_inside(entry.path, self._root, self._left_out):
                self._builder.add_symlink(path, os.readlink(entry.path))
            else:
                self._take_file(path, entry)
        made: dict[Digest, bytes] = {}
        digest = self._builder.build(made)
        return Snapshot(digest, {**self._blobs, **made}, tuple(self._left_out))

    def _take(self, path: str, entry: os.DirEntry[str]) -> None:
        if entry.is_symlink():
            self._links.append((path, entry))
        elif entry.is_dir(follow_symlinks=False):
            self._builder.make_directory(path)
            self._pending.append((entry.path, path + "/"))
        else:
            self._take_file(path, entry)

    def _take_file(self, path: str, entry: os.DirEntry[str]) -> None:
        """What is, or leads to, a file; anything else is left out."""
        if not entry.is_file():
            self._left_out.append(entry.path)
            return
        self._count += 1
        st = entry.stat()
        digest = self._files.digest(entry.path, st)
        self._blobs[digest] = entry.path
        self._builder.add_file(path, digest, executable=bool(st.st_mode & 0o111))


def is_text(name: str) -> bool:
    """Whether a name can be said in a message; others hold surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def real_place(path: str) -> str:
    """Where a path lies, without following it where it is a link itself."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def _stays_inside(link: str, root: str, left_out: Iterable[str]) -> bool:
    """Whether a link names, and by way of other links reaches, a place below `root` that is not
    left out: what lies anywhere else is in no digest."""
    target = os.readlink(link)
    if os.path.isabs(target):
        return False
    full = os.path.normpath(os.path.join(os.path.dirname(link), target))
    real = os.path.realpath(link)
    return (
        full.startswith(root + "/")
        and real.startswith(os.path.realpath(root) + "/")
        and not is_below(real, map(real_place, left_out))
    )
