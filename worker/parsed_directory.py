"""One Directory message, checked and in the form that input roots are made from."""

from __future__ import annotations

from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.merkle import check_name
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.cached_file import CachedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Node properties that are honoured: mode bits, and the mtime in nanoseconds."""

    mode: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDirectory:
    """What a Directory holds, by name. `special_files` need an inode of their own."""

    files: tuple[tuple[str, CachedFile], ...]
    special_files: tuple[tuple[str, CachedFile, Properties], ...]
    symlinks: tuple[tuple[str, str, Properties | None], ...]
    directories: tuple[tuple[str, Digest], ...]
    properties: Properties | None

    @property
    def entries(self) -> int:
        """How many files, links and directories it holds itself."""
        return (
            len(self.files) + len(self.special_files) + len(self.symlinks) + len(self.directories)
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is made of shared files and links alone, so that it can be used again."""
        return not self.special_files and self.properties is None

    @property
    def has_absolute_symlinks(self) -> bool:
        """Whether a symbolic link has a target that begins with a slash."""
        return any(target.startswith("/") for _, target, _ in self.symlinks)


def parse_directory(message: re_pb.Directory, function: DigestFunction) -> ParsedDirectory:
    """Check names, digests and targets (REAPI 2.12 Directory). Raises InvalidRequest."""
    seen: set[str] = set()

    def name_of(node: re_pb.FileNode | re_pb.DirectoryNode | re_pb.SymlinkNode) -> str:
        name = check_name(node.name)
        if name in seen:
            raise InvalidRequest(f"a directory of the input root holds {name[:300]!r} twice")
        seen.add(name)
        return name

    files, special_files = [], []
    for node in message.files:
        file = CachedFile(Digest.from_message(node.digest, function), node.is_executable)
        properties = _properties(node.node_properties)
        if properties is None:
            files.append((name_of(node), file))
        else:
            special_files.append((name_of(node), file, properties))
    symlinks = []
    for link in message.symlinks:
        if not link.target or "\0" in link.target:
            raise InvalidRequest(f"symbolic link {link.name[:300]!r} has no usable target")
        symlinks.append((name_of(link), link.target, _properties(link.node_properties)))
    return ParsedDirectory(
        files=tuple(files),
        special_files=tuple(special_files),
        symlinks=tuple(symlinks),
        directories=tuple(
            (name_of(child), Digest.from_message(child.digest, function))
            for child in message.directories
        ),
        properties=_properties(message.node_properties),
    )


def _properties(message: re_pb.NodeProperties) -> Properties | None:
    """The properties that are honoured, None when there are none of them."""
    mode = message.unix_mode.value & 0o7777 if message.HasField("unix_mode") else None
    mtime_ns = message.mtime.ToNanoseconds() if message.HasField("mtime") else None
    if mode is None and mtime_ns is None:
        return None
    return Properties(mode=mode, mtime_ns=mtime_ns)
