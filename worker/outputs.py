"""From what a command left on the disk to its ActionResult."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from remote_apis.errors import FailedPrecondition
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.command import CommandSpec, DeclaredOutput, OutputKind
from worker.output_tree import OutputBlobs, read_directory
from worker.paths import ActionRoot


def collect_outputs(
    command: CommandSpec, action_root: ActionRoot, result: re_pb.ActionResult, blobs: OutputBlobs
) -> None:
    """Add the declared outputs that exist to `result`, and what they consist of to `blobs`.

    Blocks. Raises FailedPrecondition for an output that is of another kind than declared
    (REAPI 2.12 ActionResult), OSError.
    """
    for output in command.outputs:
        path = action_root.resolve(output.inside, follow_last=False)
        if path is None:
            continue
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(status.st_mode):
            _add_symlink(output, path, status, action_root, result, blobs)
        elif stat.S_ISDIR(status.st_mode):
            _add_directory(output, path, command, result, blobs)
        elif stat.S_ISREG(status.st_mode):
            _add_file(output, path, status, result, blobs)


def collect_stream(path: Path, blobs: OutputBlobs) -> re_pb.Digest | None:
    """The digest of what a command wrote to stdout or stderr, None when that is nothing. Blocks.

    Never inlined here: that is done on request, by whoever answers the request (REAPI 2.12
    ActionResult.stdout_raw).
    """
    status = os.lstat(path)
    return blobs.add_file(path, status).to_message() if status.st_size else None


def _add_file(
    output: DeclaredOutput,
    path: Path,
    status: os.stat_result,
    result: re_pb.ActionResult,
    blobs: OutputBlobs,
) -> None:
    if output.kind is OutputKind.DIRECTORY:
        raise FailedPrecondition(f"output directory {output.path!r} is a file")
    file = result.output_files.add(
        path=output.path,
        digest=blobs.add_file(path, status).to_message(),
        is_executable=bool(status.st_mode & stat.S_IXUSR),
    )
    properties = blobs.properties(status)
    if properties.ByteSize():
        file.node_properties.CopyFrom(properties)


def _add_directory(
    output: DeclaredOutput,
    path: Path,
    command: CommandSpec,
    result: re_pb.ActionResult,
    blobs: OutputBlobs,
) -> None:
    if output.kind is OutputKind.FILE:
        raise FailedPrecondition(f"output file {output.path!r} is a directory")
    found = read_directory(path, output.path or ".", blobs)
    message = result.output_directories.add(path=output.path)
    if command.wants_tree:
        digest = blobs.add_bytes(found.as_tree(blobs.function))
        message.tree_digest.CopyFrom(digest.to_message())
        message.is_topologically_sorted = True
    if command.wants_directory:
        for directory in (found.root, *found.children.values()):
            data = directory.SerializeToString(deterministic=True)
            digest = blobs.add_bytes(data)
            if directory is found.root:
                message.root_directory_digest.CopyFrom(digest.to_message())


def _add_symlink(
    output: DeclaredOutput,
    path: Path,
    status: os.stat_result,
    action_root: ActionRoot,
    result: re_pb.ActionResult,
    blobs: OutputBlobs,
) -> None:
    link = re_pb.OutputSymlink(
        path=output.path, target=blobs.check_target(os.readlink(path), output.path)
    )
    properties = blobs.properties(status, is_link=True)
    if properties.ByteSize():
        link.node_properties.CopyFrom(properties)
    result.output_symlinks.append(link)
    # For clients of REAPI 2.0, which look nowhere else.
    leads_to = _kind_behind(output, action_root)
    if output.kind is OutputKind.FILE or (output.kind is OutputKind.ANY and leads_to == "file"):
        result.output_file_symlinks.append(link)
    elif output.kind is OutputKind.DIRECTORY or leads_to == "directory":
        result.output_directory_symlinks.append(link)


def _kind_behind(output: DeclaredOutput, action_root: ActionRoot) -> str:
    """What a symbolic link leads to inside the input root; empty when dangling or outside."""
    try:
        behind = action_root.resolve(output.inside, follow_last=True)
    except FailedPrecondition:
        return ""
    if behind is None:
        return ""
    return "directory" if behind.is_dir() else "file"
