"""The directory of a disk store: which file is where, who owns it, what is in it at the start."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from remote_apis.blob_files import blob_path
from remote_apis.digest import Digest
from remote_apis.digest_functions import BY_LABEL, DigestFunction
from remote_apis.errors import InvalidRequest, Unavailable

_LOG = logging.getLogger(__name__)
_FILE_NAME = re.compile(r"([0-9a-f]+)_([0-9]{1,19})\Z", re.ASCII)
_QUARANTINED_FILES = 16
"""How many damaged files are kept for whoever wants to know what happened."""

_TORN_SECONDS = 30.0
"""Before a crash: commits take far less, and what is older the kernel has written back."""


class FoundFile(NamedTuple):
    """A blob's file as the scan found it; its bytes have not been looked at."""

    digest: Digest
    disk_bytes: int
    last_use: float
    modified: float


class DiskLayout:
    """`cas/<function>/<hh>/<hash>_<size>`, `tmp/`, `quarantine/` and some marks below one root.

    Methods block on the file system. While the object is open no other process can open the
    same root.
    """

    def __init__(self, root: Path) -> None:
        """Raises Unavailable when another process uses the directory."""
        self._cas = root / "cas"
        self._tmp = root / "tmp"
        self._quarantine = root / "quarantine"
        for directory in (self._cas, self._tmp, self._quarantine):
            directory.mkdir(parents=True, exist_ok=True)
        self._root = str(root)
        self._known_directories: set[str] = set()
        self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Unavailable(f"{root} is in use by another process") from error
        self._clear_tmp()
        self.empty_file = root / "empty"
        """A file without bytes, for those who want the empty blob as a file."""
        self.empty_file.touch(0o444)
        self._clean_mark = root / "clean"
        self.was_closed = self._clean_mark.exists()
        """Whether the last one to use the directory has closed it."""
        self._clean_mark.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others use the directory; everything has been committed."""
        self._clean_mark.touch()
        self.release()

    def release(self) -> None:
        """Let others use the directory, which may be as after a crash."""
        os.close(self._lock)

    @property
    def tmp(self) -> Path:
        """Files here disappear at the next start."""
        return self._tmp

    def path_of(self, digest: Digest) -> str:
        """Where the blob's file is, if there is one."""
        return blob_path(self._root, digest)

    def make_parent(self, path: str) -> list[str]:
        """Make sure that the path's directory exists; the directories made need a sync."""
        parent = os.path.dirname(path)
        if parent in self._known_directories:
            return []
        made = []
        above = parent
        while not os.path.isdir(above):
            above = os.path.dirname(above)
            made.append(above)
        os.makedirs(parent, exist_ok=True)
        self._known_directories.add(parent)
        return made

    def forget_directories(self) -> None:
        """Look again before relying on a directory's being there."""
        self._known_directories.clear()

    def scan(self) -> Iterator[FoundFile]:
        """Every file that can be a blob; one of the wrong size is deleted, others are ignored."""
        for function_directory in _subdirectories(str(self._cas)):
            function = BY_LABEL.get(function_directory.name)
            if function is None:
                _LOG.warning("ignoring the unknown directory %s", function_directory.path)
                continue
            for directory in _subdirectories(function_directory.path):
                self._known_directories.add(directory.path)
                with os.scandir(directory.path) as entries:
                    for entry in entries:
                        digest = _parse_name(entry.name, function)
                        if digest is None or not entry.is_file(follow_symlinks=False):
                            _LOG.warning("ignoring %s, which is not a blob", entry.path)
                            continue
                        status = entry.stat(follow_symlinks=False)
                        if status.st_size != digest.size:
                            _LOG.warning("deleting %s, which is of the wrong size", entry.path)
                            os.unlink(entry.path)
                            continue
                        used = max(status.st_atime, status.st_mtime)
                        modified = status.st_mtime
                        yield FoundFile(digest, status.st_blocks * 512, used, modified)

    def quarantine(self, digest: Digest, inode: int) -> None:
        """Put a damaged file where nobody reads it, unless another has taken its place."""
        source = Path(self.path_of(digest))
        target = self._quarantine / f"{digest.function.label}_{source.name}"
        try:
            if source.stat().st_ino != inode:
                return
            source.rename(target)
        except FileNotFoundError:
            return
        _LOG.error("blob %s is damaged on disk: its file is now %s", digest, target)
        kept = sorted(self._quarantine.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        for path in kept[:-_QUARANTINED_FILES]:
            path.unlink(missing_ok=True)

    def _clear_tmp(self) -> None:
        for path in self._tmp.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def load(layout: DiskLayout) -> list[FoundFile]:
    """The files that are there, least recently used first.

    After a crash those written last are hashed: some may not have been synced.
    """
    files = sorted(layout.scan(), key=lambda found: found.last_use)
    if layout.was_closed:
        return files
    newest = max((found.modified for found in files), default=0.0)
    return [
        found
        for found in files
        if found.modified < newest - _TORN_SECONDS or _is_whole(layout, found.digest)
    ]


def _is_whole(layout: DiskLayout, digest: Digest) -> bool:
    is_right, status = hash_file(layout.path_of(digest), digest)
    if not is_right:
        layout.quarantine(digest, status.st_ino)
    return is_right


def hash_file(path: str, digest: Digest) -> tuple[bool, os.stat_result]:
    """Whether the file's bytes are the blob, and its status while they were read.

    Blocks for as long as hashing takes. Raises FileNotFoundError. A file that changes meanwhile
    is not the blob.
    """
    buffer = memoryview(bytearray(1024 * 1024))
    hasher = digest.function.hasher(digest.size)
    seen = 0
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            seen += count
        after = os.fstat(file.fileno())
    unchanged = before.st_mtime_ns == after.st_mtime_ns
    return unchanged and seen == digest.size and hasher.hexdigest() == digest.hash, after


def _subdirectories(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry


def _parse_name(name: str, function: DigestFunction) -> Digest | None:
    match = _FILE_NAME.match(name)
    if match is None:
        return None
    try:
        return Digest.parse(match[1], int(match[2]), function)
    except InvalidRequest:
        return None
