"""One layer of an image: decompressed and verified while it is read."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO

import zstandard

from worker.images.digests import DigestingReader, check
from worker.images.errors import DamagedImage
from worker.images.files import MAX_READ, ImageFiles
from worker.images.manifest import Layer

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = (b"\xfd7zXZ", b"BZh")
_MAX_WINDOW = 128 * 1024 * 1024
_CHUNK = 1024 * 1024
_BLOCK = 512
_DAMAGES = (tarfile.TarError, zlib.error, zstandard.ZstdError, EOFError, gzip.BadGzipFile)


class LayerReader:
    """A context manager around one layer: `entries`, then `verify`.

    Errors of decompression and of the archive leave it as DamagedImage.
    """

    def __init__(self, files: ImageFiles, layer: Layer, *, max_bytes: int) -> None:
        """More than `max_bytes` of content raise DamagedImage while they are read."""
        self._files = files
        self._layer = layer
        self._max_bytes = max_bytes
        self._stack = ExitStack()

    def __enter__(self) -> LayerReader:
        try:
            file = self._stack.enter_context(self._files.open(self._layer.name))
            algorithm = (self._layer.digest or "sha256:").partition(":")[0]
            self._blob = DigestingReader(file, algorithm)
            content = self._stack.enter_context(_decompressed(io.BufferedReader(self._blob)))
            self._content = DigestingReader(
                content, self._layer.content_digest.partition(":")[0], max_bytes=self._max_bytes
            )
            self._tar_file = _ForwardFile(self._content)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        if isinstance(error, _DAMAGES):
            raise DamagedImage(f"layer {self._layer.name} is damaged: {error}") from error

    @property
    def size(self) -> int:
        """Bytes of content read so far."""
        return self._content.count

    def entries(self) -> Iterator[tuple[tarfile.TarInfo, BinaryIO | None]]:
        """The entries of the layer in order; a file's content is to be read before the next.

        Raises DamagedImage, OSError.
        """
        with tarfile.TarFile(fileobj=self._tar_file, encoding="utf-8") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would remember them all
                content = tar.extractfile(member) if member.isreg() else None
                yield member, content  # type: ignore[misc]
        if self._tar_file.last_block.strip(b"\0"):
            raise DamagedImage(f"layer {self._layer.name} is no tar archive at some point")

    def verify(self) -> None:
        """Read to the end and compare the digests. Raises DamagedImage, OSError."""
        for reader in (self._content, self._blob):
            while reader.read(_CHUNK):
                pass
        if self._layer.digest is not None:
            check(self._blob.digest, self._layer.digest, f"layer {self._layer.name}")
        check(
            self._content.digest,
            self._layer.content_digest,
            f"the content of layer {self._layer.name}",
        )


def _decompressed(file: io.BufferedReader) -> BinaryIO:
    """The content, by what the file begins with: its stated type may be wrong, and often was."""
    start = file.peek(8)[:8]
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]
    if start.startswith(_ZSTD):
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        return decompressor.stream_reader(file, read_across_frames=True)
    if start.startswith(_OTHERS):
        raise DamagedImage("a layer is compressed in a way that is neither gzip nor zstd")
    return file


class _ForwardFile:
    """What tarfile needs of a file, for a stream: it only ever seeks forward.

    Reads are bounded: tarfile reads some headers whole, however large they say they are.
    """

    def __init__(self, file: DigestingReader) -> None:
        self._file = io.BufferedReader(file, _CHUNK)
        self._position = 0
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise DamagedImage("a layer has a header of absurd size")
        data = self._file.read(size)
        self._position += len(data)
        if size == _BLOCK:
            self.last_block = data
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence or offset < self._position:
            raise DamagedImage("a layer is not in order")
        while self._position < offset:
            if not self.read(min(offset - self._position, _CHUNK)):
                break
        return self._position

    def tell(self) -> int:
        return self._position
