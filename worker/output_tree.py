"""An output directory as Directory and Tree messages."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from remote_apis.client.blobs import BlobSource
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import FailedPrecondition
from remote_apis.merkle import build_tree
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_HASH_CHUNK = 1024 * 1024


@dataclass(slots=True)
class OutputBlobs:
    """What an action's outputs consist of, by digest: the blobs that are to be uploaded."""

    function: DigestFunction
    allow_absolute_symlinks: bool
    node_properties: frozenset[str]
    blobs: dict[Digest, BlobSource] = field(default_factory=dict)

    def add_bytes(self, data: bytes) -> Digest:
        """A blob made here."""
        digest = Digest.of(data, self.function)
        self.blobs[digest] = BlobSource(digest, data)
        return digest

    def add_file(self, path: Path, status: os.stat_result) -> Digest:
        """A file's content. Blocks while it is hashed. Raises OSError."""
        hasher = self.function.hasher(status.st_size)
        size = 0
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_HASH_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
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


def read_directory(path: Path, shown: str, blobs: OutputBlobs) -> DirectoryOutput:
    """Read a directory and all below it; its files are added to `blobs`. Blocks.

    Sockets, pipes and devices are left out. `shown` names it in messages. Raises OSError,
    FailedPrecondition.
    """
    children: dict[Digest, re_pb.Directory] = {}

    def visit(directory: Path, shown: str) -> re_pb.Directory:
        return _read_one(directory, shown, blobs, children, visit)

    return DirectoryOutput(root=visit(path, shown), children=children)


def _read_one(
    directory: Path,
    shown: str,
    blobs: OutputBlobs,
    children: dict[Digest, re_pb.Directory],
    visit: Callable[[Path, str], re_pb.Directory],
) -> re_pb.Directory:
    message = re_pb.Directory()
    with os.scandir(directory) as entries:
        # Bytes of the name, not the name: canonical order is that of UTF-8.
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        name, path = check_utf8(entry.name, f"output directory {shown!r}"), Path(entry.path)
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            file = message.files.add(
                name=name,
                digest=blobs.add_file(path, status).to_message(),
                is_executable=bool(status.st_mode & stat.S_IXUSR),
            )
            _set_properties(file.node_properties, blobs.properties(status))
        elif stat.S_ISDIR(status.st_mode):
            child = visit(path, f"{shown}/{name}")
            data = child.SerializeToString(deterministic=True)
            digest = Digest.of(data, blobs.function)
            children[digest] = child
            message.directories.add(name=name, digest=digest.to_message())
        elif stat.S_ISLNK(status.st_mode):
            target = blobs.check_target(os.readlink(path), f"{shown}/{name}")
            link = message.symlinks.add(name=name, target=target)
            _set_properties(link.node_properties, blobs.properties(status, is_link=True))
    _set_properties(message.node_properties, blobs.properties(os.lstat(directory)))
    return message


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
