"""A blob as a read-only file: its name in the cache, its mode, whether it was altered."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from remote_apis.digest import Digest
from remote_apis.digest_functions import BY_LABEL
from remote_apis.errors import InvalidRequest

FIXED_MTIME_NS = 946_684_800 * 10**9
"""2000-01-01. Inputs have this mtime everywhere; another one shows that a file was altered."""
_SEALED, _SEALED_EXECUTABLE = stat.S_IFREG | 0o444, stat.S_IFREG | 0o555


class CachedFile(NamedTuple):
    """A blob and whether it may be executed. The mode belongs to the inode: each has its own."""

    digest: Digest
    is_executable: bool

    @property
    def mode(self) -> int:
        """Nobody may write: the inode is shared by all actions that use it."""
        return 0o555 if self.is_executable else 0o444

    @property
    def twin(self) -> CachedFile:
        """The same blob with the other mode."""
        return CachedFile(self.digest, not self.is_executable)

    @property
    def name(self) -> str:
        """The file's name in the cache, from which `parse_name` makes this again."""
        digest = self.digest
        suffix = "x" if self.is_executable else "r"
        return f"{digest.function.label}-{digest.hash}-{digest.size}-{suffix}"

    def is_intact(self, status: os.stat_result) -> bool:
        """Whether a file with this status is as the cache made it."""
        mode = _SEALED_EXECUTABLE if self.is_executable else _SEALED
        return (
            status.st_mode == mode
            and status.st_size == self.digest.size
            and status.st_mtime_ns == FIXED_MTIME_NS
        )


def is_intact_at(file: CachedFile, path: Path | str) -> bool:
    """Whether there is a file at `path`, and it is as the cache made it."""
    try:
        return file.is_intact(os.lstat(path))
    except FileNotFoundError:
        return False


def altered_in(directory: int, files: Iterable[tuple[str, CachedFile]]) -> list[CachedFile]:
    """Those of the named files that are not as the cache made them, or not there.

    `directory` is a descriptor: looking up whole paths would cost a third more. Raises OSError.
    """
    found = []
    for name, file in files:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            found.append(file)
            continue
        if not file.is_intact(status):
            found.append(file)
    return found


class AlteredInputs(Exception):
    """Files or directories that were kept are not as they were made, or gone.

    `tree`: a kept directory that is of no use any more; it is the catcher's to remove.
    """

    def __init__(self, files: Collection[CachedFile], tree: Path | None = None) -> None:
        super().__init__(f"{len(files)} kept input files were altered, tree {tree}")
        self.files = frozenset(files)
        self.tree = tree


def parse_name(name: str) -> CachedFile | None:
    """What a file in the cache holds; None for a name that the cache does not make."""
    parts = name.split("-")
    if len(parts) != 4 or parts[0] not in BY_LABEL or parts[3] not in ("x", "r"):
        return None
    if not parts[2].isdecimal():
        return None
    try:
        digest = Digest.parse(parts[1], int(parts[2]), BY_LABEL[parts[0]])
    except InvalidRequest:
        return None
    return CachedFile(digest, parts[3] == "x")


def new_file(path: str) -> int:
    """A descriptor to write a file at `path` by, in place of one that may be there; its directory
    is made if need be. Raises OSError.
    """
    while True:
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except FileExistsError:
            os.unlink(path)


def seal(file: str | int, mode: int) -> None:
    """Give a finished file, by path or descriptor, its mode and the fixed mtime."""
    os.chmod(file, mode)
    os.utime(file, ns=(FIXED_MTIME_NS, FIXED_MTIME_NS))


def copy_file(source: str, target: str, *, mode: int) -> None:
    """A sealed copy of its own. Raises OSError, leaving nothing partial behind."""
    try:
        shutil.copyfile(source, target)
        seal(target, mode)
    except OSError:
        Path(target).unlink(missing_ok=True)
        raise
