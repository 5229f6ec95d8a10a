"""Making an input root on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from remote_apis.errors import FailedPrecondition, InvalidRequest
from worker.blob_cache import BlobCache
from worker.cached_file import (
    FIXED_MTIME_NS,
    AlteredInputs,
    CachedFile,
    altered_in,
    copy_file,
)
from worker.command import CommandSpec
from worker.input_tree import InputNode, set_apart
from worker.parsed_directory import Properties
from worker.paths import ActionRoot
from worker.tree_pool import PooledTree, TreePool


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom the directories of an action belong to, when it runs as another user."""

    uid: int
    gid: int


@dataclass(slots=True)
class InputPlan:
    """How an input root is made: what is linked anew, and what a former action left behind.

    Paths are relative to the input root and begin with a slash, except that of the root, "".
    Files below `writable` are copies of the action's own.
    """

    root: InputNode
    writable: str | None = None
    fresh: list[tuple[str, InputNode]] = field(default_factory=list)
    reused: list[tuple[str, PooledTree]] = field(default_factory=list)
    wanted: set[CachedFile] = field(default_factory=set)

    def reused_files(self) -> set[CachedFile]:
        """The files that come along with what is reused."""
        return {file for _, tree in self.reused for file in tree.node.files()}


def plan_inputs(root: InputNode, pool: TreePool, *, writable: str | None = None) -> InputPlan:
    """Decide what comes out of the pool; the caller gives back what it then does not use."""
    if writable is not None:
        set_apart(root, writable)
    plan = InputPlan(root, None if writable is None else f"/{writable}")
    pending = [("", root)]
    while pending:
        path, node = pending.pop()
        pooled = pool.take(node)
        if pooled is not None:
            # From here on the node stands for the directories on the disk.
            former = pooled.node
            node.children, node.inode, node.ctime_ns = (
                former.children,
                former.inode,
                former.ctime_ns,
            )
            plan.reused.append((path, PooledTree(path=pooled.path, node=node)))
            continue
        plan.fresh.append((path, node))
        plan.wanted.update(file for _, file in node.directory.files)
        plan.wanted.update(file for _, file, _ in node.directory.special_files)
        pending.extend((f"{path}/{name}", child) for name, child in node.children)
    return plan


def make_inputs(plan: InputPlan, cache: BlobCache, root: Path, owner: Owner | None) -> None:
    """Make the input root at `root`, which is not there yet; blobs are held in the cache. Blocks.

    Files are links to the cache, read-only and not the action's own; directories are the
    action's, so that it may make files next to its inputs. Raises OSError, and AlteredInputs when
    what was kept is not as it was made; such a tree is then no longer in the plan.
    """
    base = str(root)
    for path, node in plan.fresh:
        own_files = plan.writable is not None and f"{path}/".startswith(f"{plan.writable}/")
        _make_directory(base + path, node, cache, owner, own_files=own_files)
    while plan.reused:
        path, tree = plan.reused[-1]
        _check_kept(plan, tree)
        tree.path.rename(base + path)
        plan.reused.pop()
        _own_tree(base + path, tree, owner)
    # Last, and children first: making an entry sets the mtime of its directory.
    for path, node in reversed(plan.fresh):
        _apply(base + path, node.directory.properties or Properties(), is_directory=True)
    for path, node in plan.fresh:
        _remember(base + path, node)


def make_output_parents(command: CommandSpec, action_root: ActionRoot, owner: Owner | None) -> None:
    """Make the directories that outputs go into (REAPI 2.12 Command). Blocks.

    The outputs themselves are not made. Raises InvalidRequest when the working directory is not
    among the inputs, or when an input that is no directory is in an output's way.
    """
    working = action_root.resolve(command.working_directory, follow_last=True)
    if working is None or not working.is_dir():
        raise InvalidRequest(
            f"the working directory {command.working_directory!r} is not in the input root"
        )
    for output in command.outputs:
        _make_parents(output.inside.split("/")[:-1], action_root, owner)


def _make_parents(segments: Sequence[str], action_root: ActionRoot, owner: Owner | None) -> None:
    parent = action_root.root
    for count in range(1, len(segments) + 1):
        path = "/".join(segments[:count])
        try:
            found = action_root.resolve(path, follow_last=True)
            if found is None:
                found = parent / segments[count - 1]
                found.mkdir()
                if owner is not None:
                    os.chown(found, owner.uid, owner.gid)
        except (FailedPrecondition, FileExistsError) as error:
            raise InvalidRequest(f"output directory {path!r} cannot be made: {error}") from error
        if not found.is_dir():
            raise InvalidRequest(f"an output is to go into {path!r}, which is an input file")
        parent = found


def _make_directory(
    path: str, node: InputNode, cache: BlobCache, owner: Owner | None, *, own_files: bool
) -> None:
    # Strings and os.mkdir: there are thousands, and Paths cost more than the calls.
    os.mkdir(path)
    for name, file in node.directory.files:
        if own_files:
            copy_file(cache.intact_path(file), f"{path}/{name}", mode=file.mode | 0o200)
            if owner is not None:
                os.chown(f"{path}/{name}", owner.uid, owner.gid)
        else:
            cache.link(file, f"{path}/{name}")
    for name, target, properties in node.directory.symlinks:
        os.symlink(target, f"{path}/{name}")
        mtime_ns = properties.mtime_ns if properties is not None else None
        _set_mtime(f"{path}/{name}", mtime_ns)
    for name, file, special in node.directory.special_files:
        copy_file(cache.intact_path(file), f"{path}/{name}", mode=file.mode)
        if owner is not None:
            os.chown(f"{path}/{name}", owner.uid, owner.gid)
        _apply(f"{path}/{name}", special)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)


def _check_kept(plan: InputPlan, tree: PooledTree) -> None:
    """Look at all of a kept tree: somebody other than an action may have altered it meanwhile."""
    same = True
    altered = []
    for here, node in tree.node.walk(str(tree.path)):
        try:
            directory = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            same = False
            continue
        try:
            status = os.fstat(directory)
            same = same and (status.st_ino, status.st_ctime_ns) == (node.inode, node.ctime_ns)
            altered += altered_in(directory, node.directory.files)
        finally:
            os.close(directory)
    if altered or not same:
        plan.reused.pop()
        raise AlteredInputs(altered, tree.path)


def _own_tree(path: str, tree: PooledTree, owner: Owner | None) -> None:
    """Give the directories to this action's user, if another one had them."""
    if owner is None or os.lstat(path).st_uid == owner.uid:
        _remember(path, tree.node)  # the move changed it
        return
    for here, node in tree.node.walk(path):
        os.chown(here, owner.uid, owner.gid)
        _remember(here, node)


def _remember(path: str, node: InputNode) -> None:
    status = os.lstat(path)
    node.inode, node.ctime_ns = status.st_ino, status.st_ctime_ns


def _apply(path: str, properties: Properties, *, is_directory: bool = False) -> None:
    if properties.mode is not None:
        os.chmod(path, properties.mode)
    if properties.mtime_ns is not None or is_directory:
        _set_mtime(path, properties.mtime_ns)


def _set_mtime(path: str, mtime_ns: int | None) -> None:
    """Everything has the same mtime wherever it is made, so that archives of it are equal."""
    stamp = FIXED_MTIME_NS if mtime_ns is None else mtime_ns
    os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
