"""What each decorator adds to the behaviour of every store."""

from collections.abc import AsyncIterator, Collection

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound, OutOfSpace
from server.blobstore.existence_caching import ExistenceCachingBlobStore
from server.blobstore.interface import read_all, reading, write_all
from server.blobstore.memory import MemoryBlobStore
from server.blobstore.read_caching import ReadCachingBlobStore
from server.blobstore.size_splitting import SizeSplittingBlobStore
from server.blobstore.verifying import VerifyingBlobStore

SHA256 = DigestFunction.SHA256


def digest_of(data: bytes) -> Digest:
    return Digest.of(data, SHA256)


class Recorder(MemoryBlobStore):
    """A store in memory that notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[set[Digest]] = []
        self.reads: list[Digest] = []

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        self.asked.append(set(digests))
        return await super().find_missing(digests)

    def open_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        self.reads.append(digest)
        return super().open_read(digest, offset, limit)


class Liar:
    """A store that gives out other bytes than it should."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        return set()

    async def open_read(
        self, digest: Digest, offset: int = 0, limit: int = 0
    ) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    async def write(self, digest: Digest, chunks: AsyncIterator[bytes]) -> None:
        raise AssertionError("nobody writes")


@pytest.mark.parametrize("chunks", [[b"ab", b"cx"], [b"ab"], [b"ab", b"cd", b"e"], []])
async def test_verifying_never_hands_out_all_of_a_wrong_blob(chunks: list[bytes]) -> None:
    store = VerifyingBlobStore(Liar(*chunks))
    received = b""
    with pytest.raises(BlobNotFound):
        async with reading(store, digest_of(b"abcd")) as pieces:
            async for piece in pieces:
                received += piece
    assert len(received) < 4


async def test_existence_is_asked_once_in_a_while() -> None:
    now = 0.0
    inner = Recorder()
    store = ExistenceCachingBlobStore(inner, keep_seconds=60, clock=lambda: now)
    present, absent = digest_of(b"present"), digest_of(b"absent")
    await write_all(inner, present, b"present")
    assert await store.find_missing([present, absent]) == {absent}
    assert await store.find_missing([present, absent]) == {absent}
    assert await store.find_missing([present]) == set()
    assert inner.asked == [{present, absent}, {absent}]
    now = 61.0
    assert await store.find_missing([present]) == set()
    assert inner.asked[2:] == [{present}]
    await inner.remove([present])
    with pytest.raises(BlobNotFound):
        await read_all(store, present)
    assert await store.find_missing([present]) == {present}


async def test_existence_remembers_a_bounded_number() -> None:
    inner = Recorder()
    store = ExistenceCachingBlobStore(inner, max_digests=2)
    digests = [digest_of(bytes([n])) for n in range(3)]
    for n, digest in enumerate(digests):
        await write_all(store, digest, bytes([n]))
    await store.find_missing(digests)
    assert inner.asked == [{digests[0]}]


async def test_reads_go_to_the_far_store_once() -> None:
    near, far = Recorder(), Recorder()
    store = ReadCachingBlobStore(near=near, far=far)
    digest = digest_of(b"data")
    await write_all(far, digest, b"data")
    assert await read_all(store, digest) == b"data"
    assert await read_all(store, digest) == b"data"
    async with reading(store, digest, 1, 2) as chunks:
        assert [chunk async for chunk in chunks] == [b"at"]
    assert len(far.reads) == 1
    await far.remove([digest])
    assert await store.find_missing([digest]) == {digest}


async def test_a_near_store_that_loses_a_blob_is_no_harm() -> None:
    class Forgetful(MemoryBlobStore):
        async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
            return set()

    far = MemoryBlobStore()
    store = ReadCachingBlobStore(near=Forgetful(), far=far)
    digest = digest_of(b"data")
    await write_all(far, digest, b"data")
    assert await read_all(store, digest) == b"data"


async def test_sizes_go_to_their_stores() -> None:
    small, large = MemoryBlobStore(), MemoryBlobStore()
    store = SizeSplittingBlobStore(small=small, large=large, threshold=3)
    for data in (b"12", b"123"):
        await write_all(store, digest_of(data), data)
    both = [digest_of(b"12"), digest_of(b"123")]
    assert await small.find_missing(both) == {both[1]}
    assert await large.find_missing(both) == {both[0]}


async def test_memory_is_bounded() -> None:
    store = MemoryBlobStore(max_bytes=10)
    await write_all(store, digest_of(b"12345"), b"12345")
    with pytest.raises(OutOfSpace):
        await write_all(store, digest_of(b"123456"), b"123456")
    await store.remove([digest_of(b"12345")])
    await write_all(store, digest_of(b"123456"), b"123456")
    assert await read_all(store, digest_of(b"123456")) == b"123456"
