"""Snapshots of directories: everything in them as a Merkle tree, with where each blob is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.tree_builder import TreeBuilder
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

    A symbolic link that stays inside is kept as one; one that leads out to a file becomes that
    file, and one that leads out to a directory, or to nothing, is left out.
    """
    builder = TreeBuilder(files.function)
    blobs: dict[Digest, Source] = {}
    left_out: list[str] = []
    count = 0
    pending = [(root, "")]
    while pending:
        directory, prefix = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if skip(entry):
                    left_out.append(entry.path)
                    continue
                path = prefix + entry.name
                if not is_text(path):
                    raise NotSendable(f"{directory} has a file whose name is not UTF-8")
                if entry.is_symlink() and _stays_inside(entry.path, root):
                    builder.add_symlink(path, os.readlink(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    builder.make_directory(path)
                    pending.append((entry.path, path + "/"))
                elif entry.is_file():
                    count += 1
                    _add_file(builder, blobs, files, path, entry)
                else:
                    left_out.append(entry.path)
        if count > MAX_FILES:
            raise NotSendable(f"{root} has more than {MAX_FILES} files")
    made: dict[Digest, bytes] = {}
    digest = builder.build(made)
    return Snapshot(digest, {**blobs, **made}, tuple(left_out))


def _add_file(
    builder: TreeBuilder,
    blobs: dict[Digest, Source],
    files: FileDigests,
    path: str,
    entry: os.DirEntry[str],
) -> None:
    st = entry.stat()
    if not stat.S_ISREG(st.st_mode):
        return
    digest = files.digest(entry.path, st)
    blobs[digest] = entry.path
    builder.add_file(path, digest, executable=bool(st.st_mode & 0o111))


def is_text(name: str) -> bool:
    """Whether a name can be said in a message; others hold surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stays_inside(link: str, root: str) -> bool:
    target = os.readlink(link)
    if os.path.isabs(target):
        return False
    full = os.path.normpath(os.path.join(os.path.dirname(link), target))
    return full.startswith(root + "/")
