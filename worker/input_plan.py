"""From Directory messages to the list of what must be made: pure, and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from remote_apis.merkle import check_name
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.cached_file import CachedFile

MAX_ENTRIES = 2_000_000
"""A small DAG of Directories can spell a tree without end; such trees are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """Node properties that are honoured: mode bits, and the mtime in nanoseconds."""

    mode: int | None = None
    mtime_ns: int | None = None


@dataclass(slots=True)
class InputPlan:
    """An input root as flat lists; paths are relative to it, parents before children."""

    directories: list[str] = field(default_factory=list)
    files: list[tuple[str, CachedFile]] = field(default_factory=list)
    # Files that need properties of their own and so an inode of their own.
    special_files: list[tuple[str, CachedFile, NodeTimes]] = field(default_factory=list)
    symlinks: list[tuple[str, str, NodeTimes]] = field(default_factory=list)
    directory_properties: list[tuple[str, NodeTimes]] = field(default_factory=list)

    def wanted(self) -> set[CachedFile]:
        """The blobs that it is made from."""
        return {file for _, file in self.files} | {file for _, file, _ in self.special_files}


def plan_inputs(
    root: Digest, tree: Mapping[Digest, re_pb.Directory], *, allow_absolute_symlinks: bool
) -> InputPlan:
    """What the tree below `root` consists of. Raises InvalidRequest for what cannot be made."""
    plan = InputPlan()
    pending = [("", root)]
    entries = 0
    while pending:
        prefix, digest = pending.pop()
        directory = tree[digest]
        entries += 1 + len(directory.files) + len(directory.symlinks)
        if entries > MAX_ENTRIES:
            raise InvalidRequest(f"the input root has more than {MAX_ENTRIES} entries")
        names: set[str] = set()
        _plan_files(plan, prefix, directory, root, names)
        _plan_symlinks(plan, prefix, directory, names, allow_absolute=allow_absolute_symlinks)
        for child in directory.directories:
            path = _path(prefix, child.name, names)
            plan.directories.append(path)
            pending.append((f"{path}/", Digest.from_message(child.digest, root.function)))
        properties = _properties(directory.node_properties)
        if properties is not None:
            plan.directory_properties.append((prefix.rstrip("/"), properties))
    return plan


def _plan_files(
    plan: InputPlan, prefix: str, directory: re_pb.Directory, root: Digest, names: set[str]
) -> None:
    for node in directory.files:
        path = _path(prefix, node.name, names)
        file = CachedFile(Digest.from_message(node.digest, root.function), node.is_executable)
        if node.HasField("node_properties"):
            properties = _properties(node.node_properties)
            if properties is not None:
                plan.special_files.append((path, file, properties))
                continue
        plan.files.append((path, file))


def _plan_symlinks(
    plan: InputPlan,
    prefix: str,
    directory: re_pb.Directory,
    names: set[str],
    *,
    allow_absolute: bool,
) -> None:
    for node in directory.symlinks:
        path = _path(prefix, node.name, names)
        if not node.target or "\0" in node.target:
            raise InvalidRequest(f"symbolic link {path!r} has no usable target")
        if node.target.startswith("/") and not allow_absolute:
            raise InvalidRequest(f"symbolic link {path!r} is absolute, which is not allowed")
        properties = _properties(node.node_properties) or NodeTimes()
        plan.symlinks.append((path, node.target, properties))


def _path(prefix: str, name: str, names: set[str]) -> str:
    if name in names:
        raise InvalidRequest(f"the input directory {prefix or '.'!r} holds {name!r} twice")
    names.add(check_name(name))
    return prefix + name


def _properties(message: re_pb.NodeProperties) -> NodeTimes | None:
    """The properties that are honoured, None when there are none of them."""
    mode = message.unix_mode.value & 0o7777 if message.HasField("unix_mode") else None
    mtime_ns = message.mtime.ToNanoseconds() if message.HasField("mtime") else None
    if mode is None and mtime_ns is None:
        return None
    return NodeTimes(mode=mode, mtime_ns=mtime_ns)
