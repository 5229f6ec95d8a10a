"""SplitBlob and SpliceBlob."""

import random
from typing import Any

import grpc
import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import read_all, write_all

SHA256 = DigestFunction.SHA256
DATA = random.Random(0).randbytes(300_000)
DIGEST = Digest.of(DATA, SHA256)
MIN, AVERAGE, MAX = 1024, 4096, 16384  # as the fixture's parameters have it
FAST, REP_MAX = 1, 2


async def split(storage: Any, digest: Digest = DIGEST, **fields: Any) -> re_pb.SplitBlobResponse:
    request = re_pb.SplitBlobRequest(blob_digest=digest.to_message(), **fields)
    response: re_pb.SplitBlobResponse = await storage.cas.SplitBlob(request)
    return response


async def splice(storage: Any, digest: Digest, *chunks: Digest, **fields: Any) -> Any:
    request = re_pb.SpliceBlobRequest(
        blob_digest=digest.to_message(), chunk_digests=[c.to_message() for c in chunks], **fields
    )
    return await storage.cas.SpliceBlob(request)


async def put(storage: Any, data: bytes, function: DigestFunction = SHA256) -> Digest:
    digest = Digest.of(data, function)
    await write_all(storage.store, digest, data)
    return digest


async def content(storage: Any, response: re_pb.SplitBlobResponse, function: Any = SHA256) -> bytes:
    chunks = [Digest.from_message(message, function) for message in response.chunk_digests]
    assert not await storage.store.find_missing(chunks)
    return b"".join([await read_all(storage.store, chunk) for chunk in chunks])


@pytest.mark.row(55)
@pytest.mark.row(57)
@pytest.mark.parametrize("wish", [0, FAST, REP_MAX, 77])
async def test_chunks_are_stored_and_make_up_the_blob(storage: Any, wish: Any) -> None:
    await put(storage, DATA)
    response = await split(storage, chunking_function=wish)
    assert response.chunking_function == (wish if wish in (FAST, REP_MAX) else FAST)
    assert len(response.chunk_digests) > 10
    assert len({chunk.size_bytes for chunk in response.chunk_digests}) > 5
    assert await content(storage, response) == DATA
    assert await split(storage, chunking_function=wish) == response


@pytest.mark.row(56)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
async def test_chunks_have_the_digest_function_of_the_request(
    storage: Any, function: DigestFunction
) -> None:
    digest = await put(storage, DATA, function)
    response = await split(storage, digest, digest_function=function.number)
    assert await content(storage, response, function) == DATA


@pytest.mark.row(57)
@pytest.mark.parametrize("wish", [FAST, REP_MAX])
async def test_an_insertion_leaves_most_chunks_as_they_are(storage: Any, wish: Any) -> None:
    changed = DATA[:1000] + b"inserted" + DATA[1000:]
    await put(storage, DATA)
    before = await split(storage, chunking_function=wish)
    after = await split(storage, await put(storage, changed), chunking_function=wish)
    shared = {c.hash for c in before.chunk_digests} & {c.hash for c in after.chunk_digests}
    assert len(shared) > 0.8 * len(before.chunk_digests)


@pytest.mark.row(61)
@pytest.mark.parametrize("size", [0, 1, MIN, MAX - 1])
async def test_small_blobs_stay_whole(storage: Any, size: int) -> None:
    digest = await put(storage, DATA[:size])
    response = await split(storage, digest, chunking_function=FAST)
    assert await content(storage, response) == DATA[:size]
    assert len(response.chunk_digests) == (1 if size else 0)


@pytest.mark.row(61)
async def test_sizes_of_fast_cdc(storage: Any) -> None:
    await put(storage, DATA)
    sizes = [c.size_bytes for c in (await split(storage, chunking_function=FAST)).chunk_digests]
    assert all(MIN <= size <= MAX for size in sizes[:-1])


@pytest.mark.row(62)
async def test_sizes_of_rep_max_cdc(storage: Any) -> None:
    await put(storage, DATA)
    response = await split(storage, chunking_function=REP_MAX)
    assert all(4096 <= chunk.size_bytes < 8192 for chunk in response.chunk_digests)


@pytest.mark.row(55)
async def test_splitting_an_absent_blob(storage: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await split(storage)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.row(55)
async def test_chunks_that_were_evicted_are_made_again(storage: Any) -> None:
    await put(storage, DATA)
    response = await split(storage)
    chunks = [Digest.from_message(message, SHA256) for message in response.chunk_digests]
    await storage.store.remove(chunks[::2])
    assert await content(storage, await split(storage)) == DATA


@pytest.mark.row(58)
@pytest.mark.row(60)
@pytest.mark.parametrize("hint", [0, FAST, REP_MAX, 77])
async def test_splicing(storage: Any, hint: Any) -> None:
    parts = [DATA[:100_000], DATA[100_000:100_001], b"", DATA[100_001:]]
    chunks = [await put(storage, part) for part in parts]
    response = await splice(storage, DIGEST, *chunks, chunking_function=hint)
    assert response.blob_digest == DIGEST.to_message()
    assert await read_all(storage.store, DIGEST) == DATA


@pytest.mark.row(59)
async def test_splicing_an_existing_blob(storage: Any) -> None:
    await put(storage, DATA)
    half = await put(storage, DATA[:150_000]), await put(storage, DATA[150_000:])
    assert (await splice(storage, DIGEST, *half)).blob_digest == DIGEST.to_message()


async def test_a_chunk_may_repeat(storage: Any) -> None:
    chunk = await put(storage, b"abc")
    whole = Digest.of(b"abc" * 5, SHA256)
    await splice(storage, whole, *[chunk] * 5)
    assert await read_all(storage.store, whole) == b"abc" * 5


@pytest.mark.row(58)
async def test_splicing_something_else(storage: Any) -> None:
    first, second = await put(storage, DATA[:150_000]), await put(storage, DATA[150_000:])
    for chunks in ([second, first], [first], [first, second, first], []):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await splice(storage, DIGEST, *chunks)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await storage.store.find_missing([DIGEST]) == {DIGEST}


@pytest.mark.row(58)
async def test_splicing_a_missing_chunk(storage: Any) -> None:
    first, second = await put(storage, DATA[:150_000]), Digest.of(DATA[150_000:], SHA256)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await splice(storage, DIGEST, first, second)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert second.hash in (caught.value.details() or "")


@pytest.mark.row(58)
async def test_splicing_needs_the_blob_digest(storage: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await storage.cas.SpliceBlob(re_pb.SpliceBlobRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "blob_digest" in (caught.value.details() or "")
