"""Checks a blob's bytes against its digest as they pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, DigestMismatch
from server.blobstore.interface import BlobStore, reading


class Verifier:
    """Takes a blob's bytes piece by piece; every leaf runs what it is given through one."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hasher = digest.function.hasher(digest.size)
        self._seen = 0

    def add(self, data: bytes | memoryview) -> None:
        """Raises DigestMismatch as soon as there are more bytes than the digest names."""
        self._seen += len(data)
        if self._seen > self._digest.size:
            raise DigestMismatch(
                f"blob has at least {self._seen} bytes, its digest {self._digest} says otherwise"
            )
        self._hasher.update(data)

    def finish(self) -> None:
        """Raises DigestMismatch unless all bytes together are the blob that the digest names."""
        if self._seen != self._digest.size:
            raise DigestMismatch(
                f"blob has {self._seen} bytes, its digest {self._digest} says otherwise"
            )
        actual = self._hasher.hexdigest()
        if actual != self._digest.hash:
            raise DigestMismatch(
                f"blob has the {self._digest.function.label} hash {actual}, "
                f"not that of its digest {self._digest}"
            )


async def verified(digest: Digest, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks; raises DigestMismatch at the end, or before, if they are not the blob."""
    verifier = Verifier(digest)
    async for chunk in chunks:
        verifier.add(chunk)
        yield chunk
    verifier.finish()


class VerifyingBlobStore:
    """Decorates a store that others can write to: what goes in and what comes out is checked.

    A part of a blob (an offset or a limit) cannot be checked and is passed on as it is.
    """

    def __init__(self, inner: BlobStore) -> None:
        self._inner = inner

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        return await self._inner.find_missing(digests)

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        whole = offset == 0 and (limit == 0 or limit >= digest.size)
        verifier = Verifier(digest)
        held = b""  # the last chunk goes out only when everything has been checked
        async with reading(self._inner, digest, offset, limit) as chunks:
            async for chunk in chunks:
                if not whole:
                    yield chunk
                    continue
                try:
                    verifier.add(chunk)
                except DigestMismatch as error:
                    raise BlobNotFound(digest) from error
                if held:
                    yield held
                held = chunk
        if whole:
            try:
                verifier.finish()
            except DigestMismatch as error:
                raise BlobNotFound(digest) from error
            if held:
                yield held

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        await self._inner.write(digest, verified(digest, chunks))
