"""What an ActionResult from a client must look like."""

from __future__ import annotations

from collections.abc import Iterable

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.merkle import check_name
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.rpc.execution_checks import normal_path


def check_result(
    result: re_pb.ActionResult, function: DigestFunction, *, working_directory: str | None = None
) -> None:
    """Raises InvalidRequest for bad paths and digests (REAPI 2.12 ActionResult).

    With `working_directory`, the Command's, paths may lead out of that, as output paths may, though
    not out of the input root.
    """

    # Only within one list: output_symlinks repeats what the legacy lists have.
    _check_distinct(file.path for file in result.output_files)
    _check_distinct(directory.path for directory in result.output_directories)
    _check_distinct(link.path for link in result.output_symlinks)
    for file in result.output_files:
        _check_path(file.path, working_directory)
        digest = _digest(file.digest, function, f"output file {file.path!r}")
        if file.contents:
            _check_inlined(digest, file.contents, f"contents of {file.path!r}")
    for directory in result.output_directories:
        _check_path(directory.path, working_directory, may_be_empty=True)
        _check_output_directory(directory, function)
    for links in (
        result.output_symlinks,
        result.output_file_symlinks,
        result.output_directory_symlinks,
    ):
        for link in links:
            _check_path(link.path, working_directory)
            if not link.target or "\0" in link.target:
                raise InvalidRequest(f"output symlink {link.path!r} has no usable target")
    if result.HasField("stdout_digest"):
        _check_log(result.stdout_digest, result.stdout_raw, function, "stdout")
    if result.HasField("stderr_digest"):
        _check_log(result.stderr_digest, result.stderr_raw, function, "stderr")


def _check_path(path: str, working_directory: str | None, *, may_be_empty: bool = False) -> None:
    if working_directory is None:
        check_output_path(path, may_be_empty=may_be_empty)
    else:
        normal_path(normal_path("", working_directory, "path"), path, "output path")


def check_output_path(path: str, *, may_be_empty: bool = False) -> None:
    """Raises InvalidRequest unless the path is relative, normalised and below where it starts."""
    if not path and may_be_empty:
        return
    try:
        for segment in path.split("/"):
            check_name(segment)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path[:300]!r} is not an output path: {error}") from error


def _check_output_directory(directory: re_pb.OutputDirectory, function: DigestFunction) -> None:
    what = f"output directory {directory.path!r}"
    has_root = directory.HasField("root_directory_digest")
    if directory.HasField("tree_digest") or not has_root:
        _digest(directory.tree_digest, function, what)
    if has_root:
        _digest(directory.root_directory_digest, function, what)


def _check_log(message: re_pb.Digest, raw: bytes, function: DigestFunction, what: str) -> None:
    digest = _digest(message, function, what)
    if raw:
        _check_inlined(digest, raw, what)


def _check_distinct(paths: Iterable[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise InvalidRequest(f"output {path[:300]!r} occurs twice")
        seen.add(path)


def _digest(message: re_pb.Digest, function: DigestFunction, what: str) -> Digest:
    try:
        return Digest.from_message(message, function)
    except InvalidRequest as error:
        raise InvalidRequest(f"{what}: {error}") from error


def _check_inlined(digest: Digest, data: bytes, what: str) -> None:
    if Digest.of(data, digest.function) != digest:
        raise InvalidRequest(f"inlined {what} is not the blob {digest}")
