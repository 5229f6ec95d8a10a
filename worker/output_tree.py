"""An output directory as Directory and Tree messages."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from remote_apis.client.blobs import BlobSource
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import FailedPrecondition
from remote_apis.merkle import build_tree
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_HASH_CHUNK = 1024 * 1024
_LARGE = 1024**3


@dataclass(slots=True)
class OutputBlobs:
    """What an action's outputs consist of, by digest: the blobs that are to be uploaded."""

    function: DigestFunction
    allow_absolute_symlinks: bool
    node_properties: frozenset[str]
    blobs: dict[Digest, BlobSource] = field(default_factory=dict)
    _is_abandoned: bool = False

    def abandon(self) -> None:
        """Have whoever is hashing in another thread stop: nobody wants the result any more."""
        self._is_abandoned = True

    def add_bytes(self, data: bytes) -> Digest:
        """A blob made here."""
        digest = Digest.of(data, self.function)
        self.blobs[digest] = BlobSource(digest, data)
        return digest

    def add_file(self, path: Path, status: os.stat_result) -> Digest:
        """A file's content. Blocks while it is hashed. Raises OSError and FailedPrecondition."""
        _check_size(path, status.st_size)
        hasher = self.function.hasher(status.st_size)
        size = 0
        with _opened(path) as file:
            while chunk := file.read(_HASH_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
                if self._is_abandoned:
                    raise FailedPrecondition("the action is not wanted any more")
        if size != status.st_size:
            raise FailedPrecondition(f"output file {path.name!r} changed while it was read")
        digest = Digest(self.function, hasher.hexdigest(), size)
        self.blobs[digest] = BlobSource(digest, path)
        return digest

    def check_target(self, target: str, path: str) -> str:
        """A symbolic link's target, when it may be uploaded. Raises FailedPrecondition."""
        check_utf8(target, f"the symbolic link {path!r}")
        if target.startswith("/") and not self.allow_absolute_symlinks:
            raise FailedPrecondition(f"output {path!r} is an absolute symbolic link to {target!r}")
        return target

    def properties(self, status: os.stat_result, *, is_link: bool = False) -> re_pb.NodeProperties:
        """The node properties that the Command asked for; symbolic links have no mode."""
        message = re_pb.NodeProperties()
        if "mtime" in self.node_properties:
            message.mtime.FromNanoseconds(status.st_mtime_ns)
        if "unix_mode" in self.node_properties and not is_link:
            message.unix_mode.value = stat.S_IMODE(status.st_mode)
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryOutput:
    """A directory read from the disk: its topmost message, and those below it by digest."""

    root: re_pb.Directory
    children: dict[Digest, re_pb.Directory]

    def as_tree(self, function: DigestFunction) -> bytes:
        """The canonical Tree: equal directories give equal bytes (REAPI 2.12 Tree)."""
        return build_tree(self.root, self.children.values(), function)


class _Level:
    """A directory being read; its subdirectories' digests come last."""

    def __init__(self, parent: _Level | None, name: str) -> None:
        self.parent = parent
        self.name = name
        self.message = re_pb.Directory()
        self.subdirectories: dict[str, Digest] = {}


def read_directory(path: Path, shown: str, blobs: OutputBlobs) -> DirectoryOutput:
    """Read a directory and all below it; its files are added to `blobs`. Blocks.

    Sockets, pipes and devices are left out. `shown` names it in messages. Raises OSError,
    FailedPrecondition.
    """
    levels: list[_Level] = []
    pending: list[tuple[str, str, _Level | None, str]] = [(str(path), shown, None, "")]
    while pending:  # not by recursion: directories may be nested deeply
        here, shown_here, parent, name = pending.pop()
        level = _Level(parent, name)
        levels.append(level)
        for subdirectory in _read_entries(here, shown_here, level.message, blobs):
            below = (f"{here}/{subdirectory}", f"{shown_here}/{subdirectory}", level, subdirectory)
            pending.append(below)
    children: dict[Digest, re_pb.Directory] = {}
    for level in reversed(levels):  # subdirectories before their parents
        for name in sorted(level.subdirectories, key=str.encode):
            digest = level.subdirectories[name]
            level.message.directories.add(name=name, digest=digest.to_message())
        if level.parent is not None:
            data = level.message.SerializeToString(deterministic=True)
            digest = Digest.of(data, blobs.function)
            children[digest] = level.message
            level.parent.subdirectories[level.name] = digest
    return DirectoryOutput(root=levels[0].message, children=children)


def _read_entries(
    directory: str, shown: str, message: re_pb.Directory, blobs: OutputBlobs
) -> list[str]:
    """Add files, links and properties to `message`. Returns the subdirectories' names."""
    subdirectories = []
    _set_properties(message.node_properties, blobs.properties(os.lstat(directory)))
    # Bytes of the name, not the name: canonical order is that of UTF-8.
    for entry in sorted(_entries(directory), key=lambda entry: os.fsencode(entry.name)):
        name = check_utf8(entry.name, f"output directory {shown!r}")
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            file = message.files.add(
                name=name,
                digest=blobs.add_file(Path(entry.path), status).to_message(),
                is_executable=bool(status.st_mode & stat.S_IXUSR),
            )
            _set_properties(file.node_properties, blobs.properties(status))
        elif stat.S_ISDIR(status.st_mode):
            subdirectories.append(name)
        elif stat.S_ISLNK(status.st_mode):
            target = blobs.check_target(os.readlink(entry.path), f"{shown}/{name}")
            link = message.symlinks.add(name=name, target=target)
            _set_properties(link.node_properties, blobs.properties(status, is_link=True))
    return subdirectories


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except PermissionError:
        path.chmod(0o600)  # as in _entries
        return path.open("rb", buffering=0)


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except PermissionError:
        # The action's own directory, which it locked; it is ours where it ran as our user.
        os.chmod(directory, 0o700)
        with os.scandir(directory) as entries:
            return list(entries)


def _set_properties(target: re_pb.NodeProperties, source: re_pb.NodeProperties) -> None:
    """Leaves the field unset when there is nothing to say."""
    if source.ByteSize():
        target.CopyFrom(source)


def check_utf8(text: str, where: str) -> str:
    """`text`, when a message can hold it. Raises FailedPrecondition."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FailedPrecondition(f"{where} has a name in it that is not UTF-8") from None
    return text


def _check_size(path: Path, size: int) -> None:
    """A sparse file may be so large that hashing it takes years."""
    if size > _LARGE:
        disk = os.statvfs(path.parent)
        if size > disk.f_blocks * disk.f_frsize:
            raise FailedPrecondition(
                f"output file {path.name!r} of {size} bytes is larger than the worker's disk"
            )
