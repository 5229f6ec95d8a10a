"""The files of an image: in an OCI layout's directory, or in a tarball."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

from worker.images.errors import DamagedImage

MAX_READ = 4 * 1024 * 1024
"""The most that is read at once, whatever a file's header says."""
_MAX_MEMBERS = 20_000
_MAX_LINKS = 8
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"BZh": "bzip2"}


class ImageFiles(Protocol):
    """Reads an image's files by their names, such as `blobs/sha256/…`."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Read a file; the caller closes it. Raises DamagedImage when it is not there."""
        ...


class LayoutFiles:
    """An OCI layout in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, name: str) -> bool:
        return (self._directory / _normal(name)).is_file()

    def open(self, name: str) -> BinaryIO:
        try:
            # A pipe in a file's place would have us wait.
            handle = os.open(self._directory / _normal(name), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise DamagedImage(f"{name}: {error.strerror}") from error
        file = os.fdopen(handle, "rb")
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            file.close()
            raise DamagedImage(f"{name} is not a file")
        return file


class TarFiles:
    """A tarball, as of `docker save` or of an OCI layout, not compressed as a whole."""

    def __init__(self, path: Path) -> None:
        """Reads the tarball's headers. Raises DamagedImage, OSError."""
        self._path = path
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        with path.open("rb") as file:
            magic = file.read(4)
            for start, kind in _COMPRESSED.items():
                if magic.startswith(start):
                    raise DamagedImage(f"the tarball is compressed with {kind}: decompress it")
            file.seek(0)
            self._read_headers(file, os.fstat(file.fileno()).st_size)

    def _read_headers(self, file: BinaryIO, size: int) -> None:
        try:
            with closing(_CarefulFile(file)) as careful, tarfile.TarFile(fileobj=careful) as tar:
                for number, member in enumerate(tar):
                    if number >= _MAX_MEMBERS:
                        raise DamagedImage(f"the tarball has more than {_MAX_MEMBERS} files")
                    name = _normal(member.name)
                    if member.isreg() and member.sparse is None:
                        if member.offset_data + member.size > size:
                            raise DamagedImage(f"the tarball is cut off in {name!r}")
                        self._files[name] = (member.offset_data, member.size)
                    elif member.issym():
                        self._links[name] = _normal(
                            posixpath.join(posixpath.dirname(name), member.linkname)
                        )
                    elif member.islnk():
                        self._links[name] = _normal(member.linkname)
        except (tarfile.TarError, ValueError) as error:
            raise DamagedImage(f"the tarball cannot be read: {error}") from error

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def open(self, name: str) -> BinaryIO:
        found = self._find(name)
        if found is None:
            raise DamagedImage(f"{name} is not in the tarball")
        return io.BufferedReader(_Part(self._path, *found))

    def _find(self, name: str) -> tuple[int, int] | None:
        name = _normal(name)
        for _ in range(_MAX_LINKS):
            if name not in self._links:
                break
            name = self._links[name]
        return self._files.get(name)


class _CarefulFile(io.RawIOBase):
    """Refuses to read much at once: tarfile reads some headers whole, however large."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_READ:
            raise DamagedImage("the tarball has a header of absurd size")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Part(io.RawIOBase):
    """A range of a file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._file.seek(offset)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        with memoryview(buffer)[: self._left] as wanted:
            count = self._file.readinto(wanted) or 0
        self._left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
