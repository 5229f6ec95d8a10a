"""Archives as lists of entries: tar, plain or compressed with gzip, bzip2, xz or zstd, and zip.

What they claim is not believed: every size is bounded before memory or disk is taken for it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from remote_apis.errors import OutOfSpace
from server.asset.errors import OriginError, Reason
from server.asset.trees import EntryKind, TreeEntry

_CHUNK = 1024 * 1024
_MAX_READ = 64 * 1024 * 1024
"""An archive's headers and directories are read into memory in one piece."""
_MAX_DICTIONARY = 256 * 1024 * 1024
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError),
    *(EOFError, OSError, NotImplementedError, RuntimeError, ValueError, OverflowError),
)


def unpack(
    archive: Path, scratch: Path, *, max_bytes: int, max_entries: int
) -> tuple[list[TreeEntry], Path]:
    """The entries, a later one in place of an earlier of the same path, and where the bytes are.

    Blocks. Writes at most `max_bytes` into the directory `scratch`. Raises OriginError ABORTED
    for anything but a whole archive of files, directories and links, OutOfSpace.
    """
    entries: dict[str, TreeEntry] = {}
    try:
        if zipfile.is_zipfile(archive) and not _looks_like_tar(archive):
            content = scratch / "content"
            found = _zip_entries(archive, content, max_bytes)
        else:
            content = _decompressed(archive, scratch / "content", max_bytes)
            found = _tar_entries(content, entries)
        for entry in found:
            entries.pop(entry.path, None)
            entries[entry.path] = entry
            if len(entries) > max_entries:
                raise OriginError(
                    Reason.ABORTED, f"the archive has more than {max_entries} entries"
                )
    except _BROKEN as error:
        raise OriginError(Reason.ABORTED, f"not a sound archive: {error}") from error
    entries.pop("", None)
    return list(entries.values()), content


def _looks_like_tar(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512)
    return start[257:262] == b"ustar" or start[:2] == b"\x1f\x8b"


def _decompressed(archive: Path, destination: Path, max_bytes: int) -> Path:
    """The archive itself when it is not compressed."""
    with archive.open("rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        chunks = _decompressor(raw, start)
        if chunks is None:
            return archive
        size = 0
        with destination.open("wb") as file:
            for data in chunks:
                size += len(data)
                if size > max_bytes:
                    raise OriginError(
                        Reason.ABORTED, f"the archive unpacks to more than {max_bytes} bytes"
                    )
                _write(file, data)
    return destination


def _decompressor(raw: BinaryIO, start: bytes) -> Iterator[bytes] | None:
    if start.startswith(b"\x1f\x8b"):
        return _read(gzip.GzipFile(fileobj=raw))
    if start.startswith(b"BZh"):
        return _read(bz2.BZ2File(raw))
    if start.startswith(b"\xfd7zXZ\0"):
        return _xz(raw)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return _read(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return None


def _read(stream: Any) -> Iterator[bytes]:
    while data := stream.read(_CHUNK):
        yield data


def _xz(raw: BinaryIO) -> Iterator[bytes]:
    """As lzma.LZMAFile, with a limit on the memory that a stream's header can ask for."""
    decoder = lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY)
    data = raw.read(_CHUNK)
    while data:
        yield decoder.decompress(data, _CHUNK)
        while not decoder.needs_input and not decoder.eof:
            yield decoder.decompress(b"", _CHUNK)
        data = decoder.unused_data.lstrip(b"\0") or raw.read(_CHUNK)
        if decoder.eof and data:
            decoder = lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY)
    if not decoder.eof:
        raise EOFError("the compressed data ends early")


class _Careful(io.FileIO):
    """Refuses to read so much at once that memory would run out."""

    def read(self, size: int | None = -1, /) -> bytes:
        rest = os.fstat(self.fileno()).st_size - self.tell()
        wanted = rest if size is None or size < 0 else min(size, rest)
        if wanted > _MAX_READ:
            raise OriginError(Reason.ABORTED, "the archive has a header of absurd size")
        return super().read(max(0, wanted)) or b""


def _tar_entries(content: Path, seen: dict[str, TreeEntry]) -> Iterator[TreeEntry]:
    with _careful(content) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # else they all stay in memory
            yield _tar_entry(member, seen)
        # the end of an archive is a block of zeros: without it something has been cut off
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise OriginError(Reason.ABORTED, "the archive is damaged")


def _tar_entry(member: tarfile.TarInfo, seen: dict[str, TreeEntry]) -> TreeEntry:
    path = _path(member.name)
    if member.isdir():
        return TreeEntry(path=path, kind=EntryKind.DIRECTORY)
    if member.issym():
        return TreeEntry(path=path, kind=EntryKind.SYMLINK, target=member.linkname)
    if member.islnk():
        original = seen.get(_path(member.linkname))
        if original is None or original.kind is EntryKind.DIRECTORY:
            raise OriginError(
                Reason.ABORTED, f"{path[:160]!r} in the archive is a hard link to nothing"
            )
        return TreeEntry(
            path=path,
            kind=original.kind,
            offset=original.offset,
            size=original.size,
            is_executable=original.is_executable,
            target=original.target,
        )
    if not member.isreg() or member.issparse():
        raise OriginError(Reason.ABORTED, f"{path[:160]!r} in the archive is no ordinary file")
    return TreeEntry(
        path=path,
        kind=EntryKind.FILE,
        offset=member.offset_data,
        size=member.size,
        is_executable=bool(member.mode & stat.S_IXUSR),
    )


def _zip_entries(archive: Path, content: Path, max_bytes: int) -> Iterator[TreeEntry]:
    with (
        _careful(archive) as file,
        zipfile.ZipFile(file) as packed,
        content.open("wb") as unpacked,
    ):
        if sum(member.file_size for member in packed.infolist()) > max_bytes:
            raise OriginError(Reason.ABORTED, f"the archive unpacks to more than {max_bytes} bytes")
        for member in packed.infolist():
            yield _zip_entry(packed, member, unpacked)
    with content.open("rb") as unpacked:
        size = unpacked.seek(0, io.SEEK_END)
    if size > max_bytes:
        raise OriginError(Reason.ABORTED, f"the archive unpacks to more than {max_bytes} bytes")


def _zip_entry(packed: zipfile.ZipFile, member: zipfile.ZipInfo, unpacked: BinaryIO) -> TreeEntry:
    path = _path(member.filename)
    mode = member.external_attr >> 16
    if member.is_dir():
        return TreeEntry(path=path, kind=EntryKind.DIRECTORY)
    with packed.open(member) as stream:
        if stat.S_ISLNK(mode):
            target = stream.read(4097).decode()
            return TreeEntry(path=path, kind=EntryKind.SYMLINK, target=target)
        offset = unpacked.tell()
        while data := stream.read(_CHUNK):
            _write(unpacked, data)
    return TreeEntry(
        path=path,
        kind=EntryKind.FILE,
        offset=offset,
        size=unpacked.tell() - offset,
        is_executable=bool(mode & stat.S_IXUSR),
    )


@contextmanager
def _careful(path: Path) -> Iterator[BinaryIO]:
    with _Careful(path, "r") as file:
        yield cast(BinaryIO, file)


def _path(name: str) -> str:
    """Without what changes nothing; what leads out of the archive is refused when it is stored."""
    absolute = "/" if name.startswith("/") else ""
    return absolute + "/".join(part for part in name.split("/") if part not in ("", "."))


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise OutOfSpace(f"cannot unpack an archive: {error.strerror}") from error
