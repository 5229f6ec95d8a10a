"""Digests of images: computed while reading, compared at the end."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

from remote_apis.container_image import is_digest
from worker.images.errors import DamagedImage
from worker.images.files import ImageFiles

MAX_DOCUMENT = 8 * 1024 * 1024


def blob_name(digest: str) -> str:
    """Where an OCI layout keeps a blob. Raises DamagedImage for what is no digest."""
    if not is_digest(digest):
        raise DamagedImage(f"{digest[:200]!r} is not a digest")
    return f"blobs/{digest.replace(':', '/')}"


def read_document(files: ImageFiles, name: str, digest: str | None = None) -> bytes:
    """A small file, verified where a digest is given. Raises DamagedImage, OSError."""
    with files.open(name) as file:
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise DamagedImage(f"{name} has more than {MAX_DOCUMENT} bytes")
    if digest is not None:
        actual = hashlib.new(digest.partition(":")[0], content).hexdigest()
        check(f"{digest.partition(':')[0]}:{actual}", digest, name)
    return content


def check(actual: str, expected: str, what: str) -> None:
    """Raises DamagedImage where two digests differ."""
    if actual != expected:
        raise DamagedImage(f"{what} is damaged: its digest is {actual}, not {expected}")


class DigestingReader(io.RawIOBase):
    """Hands bytes on and computes their digest. `count` bytes were read so far."""

    def __init__(self, file: BinaryIO, algorithm: str, *, max_bytes: int | None = None) -> None:
        """More than `max_bytes` raise DamagedImage."""
        self._file = file
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._max_bytes = max_bytes
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        with memoryview(buffer) as whole:
            data = self._file.read(len(whole))
            self._hash.update(data)
            self.count += len(data)
            if self._max_bytes is not None and self.count > self._max_bytes:
                raise DamagedImage("the image is larger than this worker unpacks")
            whole[: len(data)] = data
        return len(data)

    @property
    def digest(self) -> str:
        """Of what was read so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"
