"""A root file system being made of layers, none of which reaches outside of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from worker.images.errors import DamagedImage
from worker.images.files import MAX_READ

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_DEPTH = 256
_MAX_LINKS = 40
# Set-user-ID programs would be of use to other users of the machine, and in a sandbox to nobody.
_MODE = 0o777
_MAX_TIME = 2**40
_BAD_ENTRY = (
    errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EMLINK,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attributes:
    mode: int
    seconds: float


class RootFileSystem:
    """The directory at `root`, to which layers are applied from the lowest up.

    Nobody else may write there meanwhile. Directories get their modes by `finish`: until then all
    can be written to.
    """

    def __init__(self, root: Path, *, max_entries: int) -> None:
        self._root = str(root)
        self._left = max_entries
        self._directories: dict[str, _Attributes] = {}
        # What the layer at hand has made or put something into: its whiteouts spare that.
        self._own: set[str] = set()

    def begin_layer(self) -> None:
        """Whiteouts that follow are about everything that is there by now."""
        self._own = set()

    def add(self, entry: tarfile.TarInfo, content: BinaryIO | None) -> None:
        """Apply one entry of a layer. Raises DamagedImage for what no image may hold, OSError."""
        self._left -= 1
        if self._left < 0:
            raise DamagedImage("the image has more files than this worker unpacks")
        try:
            self._add(entry, content)
        except (ValueError, UnicodeError) as error:
            raise DamagedImage(f"entry {entry.name[:300]!r}: {error}") from error
        except OSError as error:
            if error.errno not in _BAD_ENTRY:
                raise
            raise DamagedImage(f"entry {entry.name[:300]!r}: {error.strerror}") from error

    def _add(self, entry: tarfile.TarInfo, content: BinaryIO | None) -> None:
        segments = _segments(entry.name)
        if not segments:
            if entry.isdir():
                # Whoever may look into the image at all has to get in.
                own = _attributes(entry)
                self._directories[self._root] = _Attributes(mode=0o755, seconds=own.seconds)
            return
        name = segments[-1]
        parent = self._parent(segments)
        path = f"{parent}/{name}"
        if name.startswith(_WHITEOUT):
            self._white_out(parent, name)
            return
        if not (entry.isdir() or entry.isreg() or entry.issym() or entry.islnk()):
            return  # devices and pipes: nothing that an action may have
        if entry.islnk():
            self._link(path, entry)
        else:
            self._make(path, entry, content)
        self._mark_own(path)

    def _make(self, path: str, entry: tarfile.TarInfo, content: BinaryIO | None) -> None:
        if entry.isdir():
            if not _is_directory(path):
                self._remove(path)
                os.mkdir(path, 0o700)
            self._directories[path] = _attributes(entry)
            return
        self._remove(path)
        if entry.issym():
            if not entry.linkname:
                raise ValueError("is a link to nothing")
            os.symlink(entry.linkname, path)
            seconds = _attributes(entry).seconds
            os.utime(path, (seconds, seconds), follow_symlinks=False)
            return
        assert content is not None
        with open(path, "xb") as file:
            while data := content.read(MAX_READ // 4):
                file.write(data)
            file.flush()
            attributes = _attributes(entry)
            os.fchmod(file.fileno(), attributes.mode)
            os.utime(file.fileno(), (attributes.seconds, attributes.seconds))

    def _link(self, path: str, entry: tarfile.TarInfo) -> None:
        segments = _segments(entry.linkname)
        source = f"{self._parent(segments)}/{segments[-1]}" if segments else self._root
        if source == path:
            return
        try:
            mode = os.lstat(source).st_mode
        except FileNotFoundError:
            mode = 0
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise DamagedImage(
                f"hard link {entry.name[:300]!r} is to {entry.linkname[:300]!r}, which is no file"
            )
        self._remove(path)
        os.link(source, path, follow_symlinks=False)

    def _white_out(self, parent: str, name: str) -> None:
        if name == _OPAQUE:
            for child in os.listdir(parent):
                self._remove_lower(f"{parent}/{child}")
            self._mark_own(parent)
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden.startswith(_WHITEOUT):
            return  # aufs's own records
        if hidden in ("", ".", ".."):
            raise DamagedImage(f"whiteout {name!r} hides nothing")
        self._remove_lower(f"{parent}/{hidden}")

    def _remove_lower(self, path: str) -> None:
        """Remove what lower layers brought, also from directories that this one has as well."""
        if path not in self._own:
            self._remove(path)
        elif _is_directory(path):
            for child in os.listdir(path):
                self._remove_lower(f"{path}/{child}")

    def _parent(self, segments: list[str]) -> str:
        """The directory for an entry; made, and found through symbolic links, in the root alone.

        As everywhere, `..` at the top stays there.
        """
        if len(segments) > _MAX_DEPTH:
            raise DamagedImage(f"entry {'/'.join(segments)[:300]!r} is nested too deeply")
        pending, done, links = segments[-2::-1], [self._root], 0
        while pending:
            segment = pending.pop()
            if segment == "..":
                done = done[:-1] or done
                continue
            here = f"{done[-1]}/{segment}"
            try:
                mode = os.lstat(here).st_mode
            except FileNotFoundError:
                os.mkdir(here, 0o700)
                self._directories[here] = _Attributes(mode=0o755, seconds=0.0)
                mode = stat.S_IFDIR
            if stat.S_ISDIR(mode):
                done.append(here)
                continue
            if not stat.S_ISLNK(mode):
                raise DamagedImage(f"entry {'/'.join(segments)[:300]!r} goes through a file")
            links += 1
            target = os.readlink(here)
            if links > _MAX_LINKS:
                raise DamagedImage(f"entry {'/'.join(segments)[:300]!r}: too many symbolic links")
            if target.startswith("/"):
                done = [self._root]
            pending += [part for part in target.split("/") if part not in ("", ".")][::-1]
        return done[-1]

    def _mark_own(self, path: str) -> None:
        while path not in self._own and len(path) >= len(self._root):
            self._own.add(path)
            path = path.rpartition("/")[0]

    def _remove(self, path: str) -> None:
        """Remove whatever is there, a symbolic link itself and not what it leads to."""
        if not _is_directory(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        for directory, directories, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(f"{directory}/{name}")
            for name in directories:
                below = f"{directory}/{name}"
                if os.path.islink(below):
                    os.unlink(below)
                else:
                    self._directories.pop(below, None)
                    os.rmdir(below)
        self._directories.pop(path, None)
        os.rmdir(path)

    def place_directory(self, name: str) -> None:
        """Have a directory of that name at the top, for a sandbox to mount something on."""
        path = f"{self._root}/{name}"
        if not _is_directory(path):
            self._remove(path)
            os.mkdir(path, 0o700)
            self._directories[path] = _Attributes(mode=0o755, seconds=0.0)

    def place(self, segments: list[str], content: bytes | None, *, to: str = "") -> None:
        """Have a file, or a symbolic link `to` somewhere where content is None, at a path."""
        path = f"{self._parent(segments)}/{segments[-1]}"
        self._remove(path)
        if content is None:
            os.symlink(to, path)
            return
        with open(path, "xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)

    def read(self, segments: list[str], limit: int) -> bytes | None:
        """The start of a file; None when it is no regular file. Symbolic links are not followed
        at the end."""
        path = f"{self._parent(segments)}/{segments[-1]}"
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            return file.read(limit) if stat.S_ISREG(os.fstat(handle).st_mode) else None

    def finish(self) -> None:
        """Give the directories their modes and times, those below first."""
        for path in sorted(self._directories, key=len, reverse=True):
            attributes = self._directories[path]
            os.utime(path, (attributes.seconds, attributes.seconds))
            os.chmod(path, attributes.mode)


def _segments(name: str) -> list[str]:
    """The parts of an entry's name, seen from the root. Raises DamagedImage."""
    if "\0" in name:
        raise DamagedImage(f"entry {name[:300]!r} has a NUL in its name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DamagedImage(f"entry {name[:300]!r} leads out of the image")
    return parts


def _attributes(entry: tarfile.TarInfo) -> _Attributes:
    seconds = float(entry.mtime)
    if not 0 <= seconds <= _MAX_TIME:
        seconds = 0.0
    return _Attributes(mode=entry.mode & _MODE, seconds=seconds)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
