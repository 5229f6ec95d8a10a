"""Fill OUT_DIR with what a run left there, few system calls a file. All of it blocks."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.build_scripts.keys import OUTPUTS
from wrapper.build_scripts.links import is_beside, put_beside, target_of
from wrapper.build_scripts.outputs import is_staged, unstaged
from wrapper.materialise import copy_file, open_new, write_all
from wrapper.roots import Roots

SMALL = 1 << 20
"""A blob of up to so many bytes is read whole, and checked then."""

_numbers = itertools.count()


def put_outputs(
    out_dir: str,
    result: re_pb.ActionResult,
    function: DigestFunction,
    path_of: Callable[[Digest], str],
    roots: Roots,
    umask: int | None = None,
) -> list[tuple[os.stat_result, Digest]]:
    """Fill an empty OUT_DIR, with all or nothing; the stat and digest of each file that is a blob.

    `path_of` says where a blob's file is. Small ones are checked here, the others must have been.
    `umask` is who asks for them's, if it is not known to be our own.
    Raises BlobNotFound for one that is gone or has other bytes, and OSError.
    """
    beside = os.path.dirname(out_dir)
    whole = os.path.join(beside, f".distbuild-out-{os.getpid()}-{next(_numbers)}")
    os.mkdir(whole)
    try:
        placed = _fill(whole, result, function, path_of, roots, umask)
        put_beside(filter(is_beside, result.output_symlinks), roots)
        os.rename(whole, out_dir)  # takes an empty directory's place
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        raise
    return placed


def _fill(
    directory: str,
    result: re_pb.ActionResult,
    function: DigestFunction,
    path_of: Callable[[Digest], str],
    roots: Roots,
    umask: int | None,
) -> list[tuple[os.stat_result, Digest]]:
    tree = _Tree(directory)
    placed = []
    for each in result.output_directories:
        os.mkdir(tree.path(each.path))
    for file in result.output_files:
        digest = Digest.from_message(file.digest, function)
        path, source = tree.path(file.path), path_of(digest)
        is_own = file.HasField("node_properties") and is_staged(file)
        fd = open_new(path, 0o777 if file.is_executable else 0o666, umask)
        try:
            if file.node_properties.HasField("unix_mode"):
                os.fchmod(fd, file.node_properties.unix_mode.value & 0o777)
            if digest.size > SMALL and not is_own:
                copy_file(Path(source), fd)
            else:
                data = _checked(source, digest)
                write_all(unstaged(data, roots) if is_own else data, fd)
            if not is_own:
                placed.append((os.fstat(fd), digest))
        finally:
            os.close(fd)
    for link in result.output_symlinks:
        if not is_beside(link):
            path = tree.path(link.path)
            os.symlink(target_of(link, path, roots), path)
    return placed


def _checked(path: str, digest: Digest) -> bytes:
    """A small blob's bytes. Raises BlobNotFound and OSError."""
    if digest.size == 0:
        return b""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BlobNotFound(digest) from None
    try:
        data = os.read(fd, digest.size + 1)
    finally:
        os.close(fd)
    if Digest.of(data, digest.function) != digest:
        raise BlobNotFound(digest)
    return data


class _Tree:
    """An empty directory that is being filled, and the directories made in it."""

    def __init__(self, directory: str) -> None:
        self._made = {OUTPUTS: directory}

    def path(self, path: str) -> str:
        """Where what a server calls so is to be, its directory made. Raises OSError."""
        above, _, name = path.rpartition("/")
        if name in ("", ".", "..") or not above:
            raise OSError(f"the result names {path}, which is not in OUT_DIR")
        return f"{self.directory(above)}/{name}"

    def directory(self, path: str) -> str:
        """The same for a directory with something in it, which is made."""
        made = self._made.get(path)
        if made is None:
            made = self.path(path)
            os.mkdir(made)  # a link would be there already, and is no directory of ours
            self._made[path] = made
        return made
