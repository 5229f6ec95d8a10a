"""Blobs on their way: what is to be uploaded, and the check of what arrives."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound


class BlobSource(NamedTuple):
    """A blob to upload: its digest, and its bytes or the file that holds them.

    The file must not change before the upload is over.
    """

    digest: Digest
    content: bytes | Path

    def load(self) -> bytes:
        """The whole blob in memory; for small ones. Raises OSError."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


class DamagedBlob(BlobNotFound):
    """The server sent bytes that are not those of the digest: as good as no blob."""

    def __init__(self, digest: Digest, why: str) -> None:
        super().__init__(digest)
        self.args = (f"blob {digest} came damaged from the server: {why}",)


class SizeCheck:
    """Counts a blob's bytes as it arrives in pieces."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self.received = 0

    def update(self, piece: bytes) -> None:
        """Take the next piece. Raises DamagedBlob as soon as there is too much."""
        self.received += len(piece)
        if self.received > self._digest.size:
            raise DamagedBlob(self._digest, f"more than {self._digest.size} bytes")

    def finish(self) -> None:
        """Raises DamagedBlob unless exactly so many have been seen."""
        if self.received != self._digest.size:
            raise DamagedBlob(self._digest, f"{self.received} bytes instead")


class Verifier(SizeCheck):
    """Hashes them too."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(digest)
        self._hasher = digest.function.hasher(digest.size)

    def update(self, piece: bytes) -> None:
        """Take the next piece. Raises DamagedBlob as soon as there is too much."""
        super().update(piece)
        self._hasher.update(piece)

    def finish(self) -> None:
        """Raises DamagedBlob unless exactly the blob has been seen."""
        super().finish()
        hash_ = self._hasher.hexdigest()
        if hash_ != self._digest.hash:
            raise DamagedBlob(self._digest, f"hash {hash_} instead")


def verify(digest: Digest, data: bytes) -> bytes:
    """`data`, when it is the blob. Raises DamagedBlob."""
    verifier = Verifier(digest)
    verifier.update(data)
    verifier.finish()
    return data
