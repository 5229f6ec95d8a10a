"""ByteStream.Write of blobs, plain and compressed."""

import asyncio
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from server.blobstore.interface import read_all, write_all
from tests.rpc.uploading import (
    COMPRESSORS,
    DATA,
    DIGEST,
    HEADER,
    INVALID,
    SHA256,
    compress,
    is_there,
    messages,
    name_of,
    refusal,
    status,
    write,
)


@pytest.mark.row(22)
@pytest.mark.row(25)
@pytest.mark.row(35)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
@pytest.mark.parametrize("instance", ["", "a/b"])
async def test_what_is_written_is_stored(
    storage: Any, function: DigestFunction, instance: str
) -> None:
    digest = Digest.of(DATA, function)
    name = name_of(digest, instance=instance)
    assert await write(storage, messages(name, DATA)) == len(DATA)
    assert await read_all(storage.store, digest) == DATA


@pytest.mark.row(35)
@pytest.mark.parametrize("size", [1, 1000, 1_048_576])
async def test_in_one_message(storage: Any, size: int) -> None:
    digest = Digest.of(DATA[:size], SHA256)
    requests = messages(name_of(digest), DATA[:size], step=size)
    assert len(requests) == 1
    assert await write(storage, requests) == size
    assert await read_all(storage.store, digest) == DATA[:size]


@pytest.mark.row(8)
async def test_the_empty_blob(storage: Any) -> None:
    digest = Digest.of(b"", SHA256)
    assert await write(storage, messages(name_of(digest), b"")) == 0
    assert await write(storage, messages(name_of(digest, Compressor.ZSTD), b"")) == -1
    assert await status(storage, name_of(digest)) == (0, True)


@pytest.mark.row(23)
@pytest.mark.row(38)
@pytest.mark.row(40)
@pytest.mark.row(49)
@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("step", [17_000, 700_000, 3_000_000])
async def test_compressed(storage: Any, compressor: Compressor, step: int) -> None:
    compressed = compress(DATA, compressor)
    requests = messages(name_of(compressor=compressor), compressed, step=step)
    assert await write(storage, requests) == len(compressed)
    assert await read_all(storage.store, DIGEST) == DATA


@pytest.mark.row(38)
@pytest.mark.row(107)
async def test_siso_gets_the_uncompressed_size(storage: Any) -> None:
    metadata = re_pb.RequestMetadata(tool_details=re_pb.ToolDetails(tool_name="siso"))
    header = "build.bazel.remote.execution.v2.requestmetadata-bin"
    requests = messages(name_of(compressor=Compressor.ZSTD), compress(DATA, Compressor.ZSTD))
    answer = write(storage, requests, metadata=((header, metadata.SerializeToString()),))
    assert await answer == len(DATA)


async def test_zstd_frames_one_after_the_other(storage: Any) -> None:
    frames = [
        compress(DATA[start : start + 600_000], Compressor.ZSTD)
        for start in range(0, len(DATA), 600_000)
    ]
    await write(storage, messages(name_of(compressor=Compressor.ZSTD), b"".join(frames)))
    assert await is_there(storage)


@pytest.mark.row(27)
@pytest.mark.parametrize("metadata", ["/x", "/blobs/uploads", "/a/b/c.txt", "/", "//"])
async def test_metadata_behind_the_size_is_ignored(storage: Any, metadata: str) -> None:
    assert await write(storage, messages(name_of() + metadata, DATA)) == len(DATA)
    assert await is_there(storage)


@pytest.mark.row(28)
async def test_one_uuid_for_different_blobs(storage: Any) -> None:
    upload_id = str(uuid.uuid4())
    other = Digest.of(b"other", SHA256)
    await asyncio.gather(
        write(storage, messages(name_of(upload_id=upload_id), DATA)),
        write(storage, messages(name_of(other, upload_id=upload_id), b"other", step=2)),
    )
    assert await is_there(storage)
    assert await is_there(storage, other)


@pytest.mark.row(29)
async def test_the_name_comes_first_and_stays_the_same(storage: Any) -> None:
    name = name_of()
    requests = messages(name, DATA)
    requests[1].resource_name = name
    assert await write(storage, requests) == len(DATA)
    other = Digest.of(DATA[:5], SHA256)
    requests = messages(name_of(other), DATA[:5], step=2)
    requests[1].resource_name = name
    assert "resource name" in await refusal(storage, requests)
    requests = messages("", DATA[:5], step=2)
    assert "resource name" in await refusal(storage, requests)
    assert not await is_there(storage, other)


@pytest.mark.row(30)
@pytest.mark.parametrize("offset", [1, 5, -1, 2**62])
async def test_a_fresh_upload_begins_at_zero(storage: Any, offset: int) -> None:
    assert "write_offset" in await refusal(storage, messages(name_of(), DATA, offset=offset))
    assert not await is_there(storage)


@pytest.mark.row(31)
@pytest.mark.parametrize("change", [-700_000, -1, 1, 2**40])
@pytest.mark.parametrize("compressor", [Compressor.IDENTITY, *COMPRESSORS])
async def test_offsets_follow_one_another(
    storage: Any, change: int, compressor: Compressor
) -> None:
    data = DATA if compressor is Compressor.IDENTITY else compress(DATA, compressor)
    requests = messages(name_of(compressor=compressor), data)
    requests[1].write_offset += change
    assert "write_offset" in await refusal(storage, requests)
    assert not await is_there(storage)


@pytest.mark.row(32)
async def test_nothing_follows_finish_write(storage: Any) -> None:
    for step in (700_000, len(DATA)):
        requests = messages(name_of(), DATA, step=step)
        requests.append(bs_pb.WriteRequest(write_offset=len(DATA), data=b"more"))
        assert "finish_write" in await refusal(storage, requests)
        requests[-1].data = b""
        assert "finish_write" in await refusal(storage, requests)
    assert not await is_there(storage)


@pytest.mark.row(33)
@pytest.mark.parametrize("size", [0, 10, 1_000_000, len(DATA)])
async def test_a_stream_without_finish_write_stores_nothing(storage: Any, size: int) -> None:
    requests = messages(name_of(), DATA[:size], finish=False)
    assert "finish_write" in await refusal(storage, requests)
    assert not await is_there(storage)


async def test_a_stream_without_messages(storage: Any) -> None:
    assert "first message" in await refusal(storage, [])


@pytest.mark.row(34)
async def test_empty_messages_are_fine(storage: Any) -> None:
    empty = bs_pb.WriteRequest(write_offset=700_000)
    requests = messages(name_of(), DATA)
    requests.insert(1, empty)
    requests[-1].finish_write = False
    requests.append(bs_pb.WriteRequest(write_offset=len(DATA), finish_write=True))
    assert await write(storage, requests) == len(DATA)
    assert await is_there(storage)


@pytest.mark.row(36)
async def test_an_existing_blob_ends_the_write_at_once(storage: Any) -> None:
    await write_all(storage.store, DIGEST, DATA)
    call = storage.bytes.Write()
    await call.write(bs_pb.WriteRequest(resource_name=name_of(), data=b"anything"))
    assert (await call).committed_size == len(DATA)
    assert await write(storage, messages(name_of(), DATA)) == len(DATA)
    assert await write(storage, messages(name_of(), DATA, offset=77)) == len(DATA)


@pytest.mark.row(36)
async def test_a_blob_that_arrives_meanwhile_ends_the_write(storage: Any) -> None:
    call = storage.bytes.Write()
    first, second, *_ = messages(name_of(), DATA)
    await call.write(first)
    await write_all(storage.store, DIGEST, DATA)
    await call.write(second)
    async with asyncio.timeout(20):
        assert (await call).committed_size == len(DATA)


@pytest.mark.row(37)
@pytest.mark.parametrize("compressor", COMPRESSORS)
async def test_an_existing_blob_uploaded_compressed(storage: Any, compressor: Compressor) -> None:
    await write_all(storage.store, DIGEST, DATA)
    requests = messages(name_of(compressor=compressor), compress(DATA, compressor))
    assert await write(storage, requests) == -1


@pytest.mark.row(39)
@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", DATA[:-1] + b"x", b"", DATA * 3], ids=len)
async def test_wrong_bytes(storage: Any, data: bytes) -> None:
    for step in (700_000, len(data) or 1):
        assert "digest" in await refusal(storage, messages(name_of(), data, step=step))
    assert not await is_there(storage)


@pytest.mark.row(2)
@pytest.mark.row(39)
@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
async def test_a_wrong_size_with_the_right_hash(storage: Any, size: int) -> None:
    wrong = DIGEST._replace(size=size)
    assert "bytes" in await refusal(storage, messages(name_of(wrong), DATA))
    assert not await is_there(storage, wrong)
    assert not await is_there(storage)


ZERO = Digest.of(bytes(1000), SHA256)


@pytest.mark.row(40)
@pytest.mark.parametrize(
    ("compressor", "data"),
    [
        (Compressor.ZSTD, DATA[:1000]),
        (Compressor.ZSTD, b""),
        (Compressor.ZSTD, compress(bytes(999), Compressor.ZSTD)),
        (Compressor.ZSTD, compress(bytes(1001), Compressor.ZSTD)),
        (Compressor.ZSTD, compress(bytes(999) + b"x", Compressor.ZSTD)),
        (Compressor.ZSTD, compress(bytes(1000), Compressor.ZSTD)[:-1]),
        (Compressor.ZSTD, compress(bytes(1000), Compressor.ZSTD) + b"x"),
        (Compressor.ZSTD, compress(bytes(1000), Compressor.ZSTD) + bytes(5_000_000)),
        (Compressor.ZSTD, compress(bytes(2_000_000_000), Compressor.ZSTD)),
        (Compressor.DEFLATE, DATA[:1000]),
        (Compressor.DEFLATE, b""),
        (Compressor.DEFLATE, compress(bytes(999), Compressor.DEFLATE)),
        (Compressor.DEFLATE, compress(bytes(1000), Compressor.DEFLATE)[:-1]),
        (Compressor.DEFLATE, compress(bytes(1000), Compressor.DEFLATE) + b"x"),
        (Compressor.DEFLATE, zlib.compress(bytes(1000))),
        (Compressor.DEFLATE, compress(bytes(100_000_000), Compressor.DEFLATE)),
    ],
)
async def test_bad_compressed_streams(storage: Any, compressor: Compressor, data: bytes) -> None:
    for step in (100, 1_000_000):
        assert await refusal(storage, messages(name_of(ZERO, compressor), data, step=step))
    assert not await is_there(storage, ZERO)
    await write(storage, messages(name_of(ZERO), bytes(1000)))


@pytest.mark.row(21)
async def test_blobs_over_the_size_limit(serve: Any) -> None:
    storage = await serve(max_blob_bytes=1000)
    assert await write(storage, messages(name_of(ZERO), bytes(1000))) == 1000
    big = Digest.of(bytes(1001), SHA256)
    assert "larger" in await refusal(storage, messages(name_of(big), bytes(1001)))


@pytest.mark.row(42)
async def test_concurrent_uploads_of_one_blob_in_any_form(storage: Any) -> None:
    async def slowly(name: str, data: bytes) -> AsyncIterator[bs_pb.WriteRequest]:
        for message in messages(name, data, step=200_000):
            await asyncio.sleep(0.001)
            yield message

    names = [(name_of(compressor=c), compress(DATA, c)) for c in COMPRESSORS for _ in range(3)]
    names += [(name_of(), DATA) for _ in range(3)]
    names += [(name_of(upload_id="same"), DATA) for _ in range(3)]
    answers = await asyncio.gather(
        *(storage.bytes.Write(slowly(name, data)) for name, data in names)
    )
    assert {answer.committed_size for answer in answers} <= {
        len(DATA),
        -1,
        *map(len, dict(names).values()),
    }
    assert await read_all(storage.store, DIGEST) == DATA


async def test_what_is_left_of_bad_uploads(storage: Any) -> None:
    """Nothing: no temporary files, no open ones."""
    await refusal(storage, messages(name_of(), DATA + b"x"))
    await refusal(storage, messages(name_of(), DATA[:-1]))
    requests = messages(name_of(), DATA)
    requests[1].write_offset = 5
    await refusal(storage, requests)
    async with asyncio.timeout(20):
        while any((storage.path / "blobs" / "tmp").iterdir()):
            await asyncio.sleep(0.01)


@pytest.mark.row(50)
async def test_the_header_repeats_the_name(storage: Any) -> None:
    name = name_of()
    assert await write(storage, messages(name, DATA), metadata=((HEADER, name),)) == len(DATA)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write(storage, messages(name_of(), DATA), metadata=((HEADER, name),))
    assert caught.value.code() is INVALID


@pytest.mark.row(22)
@pytest.mark.row(23)
@pytest.mark.parametrize(
    "name",
    [
        f"uploads/blobs/{DIGEST.hash}/5",
        f"uploads//blobs/{DIGEST.hash}/5",
        f"/uploads/u/blobs/{DIGEST.hash}/5",
        f"uploads/u/{DIGEST.hash}/5",
        f"uploads/u/blobs/{DIGEST.hash}",
        f"uploads/u/compressed-blobs/{DIGEST.hash}/5",
        f"uploads/u/compressed-blobs/brotli/{DIGEST.hash}/5",
        f"blobs/{DIGEST.hash}/5",
        f"a/actions/uploads/u/blobs/{DIGEST.hash}/5",
        "uploads/u",
    ],
)
async def test_malformed_names(storage: Any, name: str) -> None:
    assert await refusal(storage, messages(name, b"12345"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await status(storage, name)
    assert caught.value.code() is INVALID


async def test_a_client_that_waits_for_the_answer_before_ending(storage: Any) -> None:
    call = storage.bytes.Write()
    for message in messages(name_of(), DATA):
        await call.write(message)
    async with asyncio.timeout(20):
        assert (await call).committed_size == len(DATA)
