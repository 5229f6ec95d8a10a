"""What every BlobStore does, whatever it is made of."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound, DigestMismatch
from server.blobstore.interface import CHUNK_SIZE, BlobStore, read_all, reading, write_all

SHA256 = DigestFunction.SHA256


def blob(size: int, seed: int = 0, function: DigestFunction = SHA256) -> tuple[Digest, bytes]:
    data = random.Random(f"{size} {seed}").randbytes(size)
    return Digest.of(data, function), data


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
@pytest.mark.parametrize("size", [1, 1000, 3_000_001])
async def test_what_was_written_is_read(
    store: BlobStore, function: DigestFunction, size: int
) -> None:
    digest, data = blob(size, function=function)
    assert await store.find_missing([digest]) == {digest}
    await write_all(store, digest, data)
    assert await store.find_missing([digest]) == set()
    assert await read_all(store, digest) == data


async def test_equal_bytes_under_two_functions_are_two_blobs(store: BlobStore) -> None:
    data = b"same"
    plain, tree = Digest.of(data, SHA256), Digest.of(data, DigestFunction.SHA256TREE)
    assert plain.hash == tree.hash
    await write_all(store, plain, data)
    assert await store.find_missing([plain, tree]) == {tree}
    with pytest.raises(BlobNotFound):
        await read_all(store, tree)


@pytest.mark.row(8)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
async def test_the_empty_blob_is_always_there(store: BlobStore, function: DigestFunction) -> None:
    digest = Digest.of(b"", function)
    assert await store.find_missing([digest]) == set()
    assert await read_all(store, digest) == b""
    await write_all(store, digest, b"")
    assert await store.find_missing([digest]) == set()


async def test_reading_what_is_not_there(store: BlobStore) -> None:
    digest, _ = blob(10)
    with pytest.raises(BlobNotFound) as caught:
        await read_all(store, digest)
    assert caught.value.digest == digest


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 0), (0, 1), (1, 0), (5, 7), (CHUNK_SIZE, 0), (CHUNK_SIZE - 1, 2), (2_500_000, 0)],
)
async def test_a_part(store: BlobStore, offset: int, limit: int) -> None:
    digest, data = blob(2_500_000)
    await write_all(store, digest, data)
    async with reading(store, digest, offset, limit) as chunks:
        pieces = [piece async for piece in chunks]
    assert b"".join(pieces) == data[offset : offset + limit if limit else None]
    assert all(0 < len(piece) <= CHUNK_SIZE for piece in pieces)


async def test_a_limit_beyond_the_end_is_cut(store: BlobStore) -> None:
    digest, data = blob(100)
    await write_all(store, digest, data)
    async with reading(store, digest, 90, 1000) as chunks:
        assert [piece async for piece in chunks] == [data[90:]]


async def test_abandoning_a_read(store: BlobStore) -> None:
    digest, data = blob(3_000_000)
    await write_all(store, digest, data)
    async with reading(store, digest) as chunks:
        first = await anext(chunks)
    assert data.startswith(first)
    assert await read_all(store, digest) == data


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data + bytes(3 * CHUNK_SIZE),
    ],
    ids=["short", "long", "nothing", "other", "much_longer"],
)
async def test_wrong_bytes_are_refused(store: BlobStore, spoil: Callable[[bytes], bytes]) -> None:
    digest, data = blob(2000)
    with pytest.raises(DigestMismatch):
        await write_all(store, digest, spoil(data))
    assert await store.find_missing([digest]) == {digest}
    with pytest.raises(BlobNotFound):
        await read_all(store, digest)
    await write_all(store, digest, data)
    assert await read_all(store, digest) == data


async def test_wrong_size_with_the_right_hash_is_refused(store: BlobStore) -> None:
    digest, data = blob(2000)
    for size in (1999, 2001):
        with pytest.raises(DigestMismatch):
            await write_all(store, digest._replace(size=size), data)
        assert await store.find_missing([digest, digest._replace(size=size)]) == {
            digest,
            digest._replace(size=size),
        }


async def test_an_error_of_the_source_leaves_nothing(store: BlobStore) -> None:
    digest, data = blob(2_000_000)

    async def breaking() -> AsyncIterator[bytes]:
        yield data[:CHUNK_SIZE]
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await store.write(digest, breaking())
    assert await store.find_missing([digest]) == {digest}


async def test_a_cancelled_write_leaves_nothing(store: BlobStore) -> None:
    digest, data = blob(2_000_000)
    waiting = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield data[:CHUNK_SIZE]
        waiting.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(store.write(digest, hanging()))
        await waiting.wait()
        writing.cancel()
    assert await store.find_missing([digest]) == {digest}


async def test_empty_chunks_are_fine(store: BlobStore) -> None:
    digest, data = blob(100)
    await store.write(digest, chunks_of(b"", data[:50], b"", data[50:], b""))
    assert await read_all(store, digest) == data


@pytest.mark.row(36)
async def test_writing_an_existing_blob_need_not_consume(store: BlobStore) -> None:
    digest, data = blob(100)
    await write_all(store, digest, data)
    await store.write(digest, chunks_of(b"whatever"))
    assert await read_all(store, digest) == data


@pytest.mark.row(42)
async def test_many_writers_of_one_blob(store: BlobStore) -> None:
    digest, data = blob(3_000_000)

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 500_000):
            await asyncio.sleep(0)
            yield data[start : start + 500_000]

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(store.write(digest, slowly()))
    assert await read_all(store, digest) == data


async def test_many_blobs_at_once(store: BlobStore) -> None:
    blobs = [blob(500 + number, number) for number in range(100)]
    async with asyncio.TaskGroup() as group:
        for digest, data in blobs:
            group.create_task(write_all(store, digest, data))
    absent, _ = blob(5)
    assert await store.find_missing([*(digest for digest, _ in blobs), absent]) == {absent}
    for digest, data in blobs:
        assert await read_all(store, digest) == data
