"""Making an input root on the disk, and telling afterwards whether it was tampered with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from remote_apis.errors import FailedPrecondition, InvalidRequest
from worker.blob_cache import BlobCache
from worker.cached_file import CachedFile, copy_file
from worker.command import CommandSpec
from worker.input_plan import InputPlan, NodeTimes
from worker.paths import ActionRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom the directories of an action belong to, when it runs as another user."""

    uid: int
    gid: int


def make_inputs(plan: InputPlan, cache: BlobCache, root: Path, owner: Owner | None) -> None:
    """Fill the empty directory `root`; the plan's blobs are held in the cache. Blocks.

    Files are links to the cache, read-only and not the action's own; directories are the
    action's, so that it may make files next to its inputs. Raises OSError.
    """
    base = f"{root}/"
    for path in plan.directories:
        os.mkdir(base + path)
    for path, file in plan.files:
        cache.link(file, base + path)
    for path, target, properties in plan.symlinks:
        os.symlink(target, base + path)
        if properties.mtime_ns is not None:
            times = (properties.mtime_ns, properties.mtime_ns)
            os.utime(base + path, ns=times, follow_symlinks=False)
    for path, file, properties in plan.special_files:
        _make_special(cache.path(file), file, base + path, properties, owner)
    if owner is not None:
        for path in ["", *plan.directories]:
            os.chown(base + path, owner.uid, owner.gid)
    # Last, and children first: making an entry sets the mtime of its directory.
    for path, properties in reversed(plan.directory_properties):
        _apply(base + path, properties)


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
        done: list[str] = []
        for segment in output.inside.split("/")[:-1]:
            done.append(segment)
            _make_directory("/".join(done), action_root, owner)


def _make_directory(path: str, action_root: ActionRoot, owner: Owner | None) -> None:
    try:
        found = action_root.resolve(path, follow_last=True)
        if found is None:
            parent = action_root.resolve(path.rpartition("/")[0], follow_last=True)
            assert parent is not None  # made by the round before
            found = parent / path.rpartition("/")[2]
            found.mkdir()
            if owner is not None:
                os.chown(found, owner.uid, owner.gid)
    except (FailedPrecondition, FileExistsError) as error:
        raise InvalidRequest(f"output directory {path!r} cannot be made: {error}") from error
    if not found.is_dir():
        raise InvalidRequest(f"an output is to go into {path!r}, which is an input file")


def altered_inputs(plan: InputPlan, cache: BlobCache) -> list[CachedFile]:
    """Cached files that are no longer as the cache made them. Blocks.

    The inodes are looked at through the cache: what the action did with its own links to them,
    removing them among it, does not matter.
    """
    altered = []
    for file in plan.wanted():
        try:
            status = os.lstat(cache.path(file))
        except FileNotFoundError:
            continue
        if not file.is_intact(status):
            altered.append(file)
    return altered


def _make_special(
    source: Path, file: CachedFile, path: str, properties: NodeTimes, owner: Owner | None
) -> None:
    copy_file(source, path, mode=file.mode)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    _apply(path, properties)


def _apply(path: str, properties: NodeTimes) -> None:
    if properties.mode is not None:
        os.chmod(path, properties.mode)
    if properties.mtime_ns is not None:
        os.utime(path, ns=(properties.mtime_ns, properties.mtime_ns))
