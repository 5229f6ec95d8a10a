"""ByteStream.Read of blobs, plain and compressed."""

import asyncio
import random
import sys
import zlib
from typing import Any

import grpc
import pytest
import zstandard

from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.resource_names import BlobName
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from server.blobstore.interface import write_all

SHA256 = DigestFunction.SHA256
DATA = random.Random(0).randbytes(2_500_000)
DIGEST = Digest.of(DATA, SHA256)
HEADER = "build.bazel.remote.execution.v2.resource-name"
DECOMPRESS = {
    Compressor.ZSTD: lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    Compressor.DEFLATE: lambda data: zlib.decompress(data, wbits=-15),
}


def name_of(digest: Digest, instance: str = "", compressor: Any = Compressor.IDENTITY) -> str:
    return BlobName(instance=instance, digest=digest, compressor=compressor).to_read()


async def read_parts(storage: Any, name: str, offset: int = 0, limit: int = 0) -> list[bytes]:
    request = bs_pb.ReadRequest(resource_name=name, read_offset=offset, read_limit=limit)
    return [response.data async for response in storage.bytes.Read(request)]


async def read(storage: Any, name: str, offset: int = 0, limit: int = 0) -> bytes:
    return b"".join(await read_parts(storage, name, offset, limit))


async def code_of(storage: Any, name: str, offset: int = 0, limit: int = 0) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(storage, name, offset, limit)
    assert caught.value.details()
    return caught.value.code()


@pytest.mark.row(24)
@pytest.mark.row(25)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
@pytest.mark.parametrize("instance", ["", "main", "a/b/c"])
async def test_every_function_and_instance(
    storage: Any, function: DigestFunction, instance: str
) -> None:
    digest = Digest.of(DATA, function)
    await write_all(storage.store, digest, DATA)
    assert await read(storage, name_of(digest, instance)) == DATA


@pytest.mark.row(8)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
async def test_the_empty_blob(storage: Any, function: DigestFunction) -> None:
    digest = Digest.of(b"", function)
    assert await read(storage, name_of(digest)) == b""
    for compressor in (Compressor.ZSTD, Compressor.DEFLATE):
        data = await read(storage, name_of(digest, compressor=compressor))
        assert DECOMPRESS[compressor](data) == b""


@pytest.mark.row(45)
@pytest.mark.row(46)
@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 1), (1, 0), (7, 1_500_000), (len(DATA), 0), (len(DATA), 5), (len(DATA) - 3, 100)],
)
async def test_offset_and_limit(storage: Any, offset: int, limit: int) -> None:
    await write_all(storage.store, DIGEST, DATA)
    expected = DATA[offset : offset + limit if limit else None]
    assert await read(storage, name_of(DIGEST), offset, limit) == expected


@pytest.mark.row(45)
@pytest.mark.row(46)
@pytest.mark.parametrize(
    ("offset", "limit", "code"),
    [
        (-1, 0, grpc.StatusCode.OUT_OF_RANGE),
        (len(DATA) + 1, 0, grpc.StatusCode.OUT_OF_RANGE),
        (2**63 - 1, 0, grpc.StatusCode.OUT_OF_RANGE),
        (0, -1, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_bad_offsets_and_limits(
    storage: Any, offset: int, limit: int, code: grpc.StatusCode
) -> None:
    await write_all(storage.store, DIGEST, DATA)
    assert await code_of(storage, name_of(DIGEST), offset, limit) is code
    compressed = name_of(DIGEST, compressor=Compressor.ZSTD)
    assert await code_of(storage, compressed, offset, limit) is code


async def test_an_absent_blob(storage: Any) -> None:
    assert await code_of(storage, name_of(DIGEST)) is grpc.StatusCode.NOT_FOUND
    compressed = name_of(DIGEST, compressor=Compressor.ZSTD)
    assert await code_of(storage, compressed) is grpc.StatusCode.NOT_FOUND


@pytest.mark.row(47)
@pytest.mark.row(49)
@pytest.mark.parametrize("compressor", [Compressor.ZSTD, Compressor.DEFLATE])
@pytest.mark.parametrize("offset", [0, 1, 1_200_000, len(DATA)])
async def test_compressed(storage: Any, compressor: Compressor, offset: int) -> None:
    await write_all(storage.store, DIGEST, DATA)
    data = await read(storage, name_of(DIGEST, compressor=compressor), offset)
    assert DECOMPRESS[compressor](data) == DATA[offset:]


async def test_compression_saves_something(storage: Any) -> None:
    data = b"0123456789" * 500_000
    digest = Digest.of(data, SHA256)
    await write_all(storage.store, digest, data)
    for compressor in (Compressor.ZSTD, Compressor.DEFLATE):
        sent = await read(storage, name_of(digest, compressor=compressor))
        assert len(sent) < len(data) / 50


@pytest.mark.row(48)
async def test_compressed_with_a_limit(storage: Any) -> None:
    await write_all(storage.store, DIGEST, DATA)
    compressed = name_of(DIGEST, compressor=Compressor.ZSTD)
    assert await code_of(storage, compressed, 0, 10) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.row(24)
@pytest.mark.row(25)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "blobs",
        f"blobs/{DIGEST.hash}",
        f"/blobs/{DIGEST.hash}/1",
        f"a//blobs/{DIGEST.hash}/1",
        f"blobs/{DIGEST.hash}/",
        f"blobs/{DIGEST.hash}/-1",
        f"blobs/{DIGEST.hash}/+1",
        f"blobs/{DIGEST.hash}/1_0",
        f"blobs/{DIGEST.hash}/٣",
        f"blobs/{DIGEST.hash}/{'9' * 5000}",
        f"blobs/{DIGEST.hash}/99999999999999999999",
        f"blobs/{DIGEST.hash}/5/extra",
        f"blobs/{DIGEST.hash.upper()}/5",
        f"blobs/{DIGEST.hash[1:]}/5",
        f"blobs/sha256/{DIGEST.hash}/5",
        f"blobs/SHA256TREE/{DIGEST.hash}/5",
        f"blobs/sha3/{DIGEST.hash}/5",
        f"uploads/u/blobs/{DIGEST.hash}/5",
        f"compressed-blobs/{DIGEST.hash}/5",
        f"compressed-blobs/brotli/{DIGEST.hash}/5",
        f"compressed-blobs/identity/{DIGEST.hash}/5",
        f"compressed-blobs/ZSTD/{DIGEST.hash}/5",
        f"operations/blobs/{DIGEST.hash}/5",
        f"../blobs/{DIGEST.hash}/5",
        "something/else/altogether",
    ],
)
async def test_malformed_names(storage: Any, name: str) -> None:
    assert await code_of(storage, name) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.row(25)
async def test_the_same_hash_of_another_function_is_another_blob(storage: Any) -> None:
    digest = Digest.of(b"short", DigestFunction.SHA256TREE)
    await write_all(storage.store, digest, b"short")
    assert await read(storage, f"blobs/sha256tree/{digest.hash}/5") == b"short"
    assert await code_of(storage, f"blobs/{digest.hash}/5") is grpc.StatusCode.NOT_FOUND


@pytest.mark.row(50)
async def test_the_header_repeats_the_name(storage: Any) -> None:
    await write_all(storage.store, DIGEST, DATA)
    request = bs_pb.ReadRequest(resource_name=name_of(DIGEST), read_limit=3)
    good = storage.bytes.Read(request, metadata=((HEADER, name_of(DIGEST)),))
    assert [response.data async for response in good] == [DATA[:3]]
    bad = storage.bytes.Read(request, metadata=((HEADER, "blobs/other/1"),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [response async for response in bad]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_damaged_blob_is_not_found_and_can_be_written_again(storage: Any) -> None:
    await write_all(storage.store, DIGEST, DATA)
    path = await storage.store.path_of(DIGEST)
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"?")
    assert await code_of(storage, name_of(DIGEST)) is grpc.StatusCode.NOT_FOUND
    await write_all(storage.store, DIGEST, DATA)
    assert await read(storage, name_of(DIGEST)) == DATA


async def test_chunks_fit_into_default_messages(storage: Any) -> None:
    data = bytes(9_000_000)
    digest = Digest.of(data, SHA256)
    await write_all(storage.store, digest, data)
    for name in (name_of(digest), name_of(digest, compressor=Compressor.DEFLATE)):
        assert max(map(len, await read_parts(storage, name))) <= 1024 * 1024


async def test_a_reader_that_goes_away(storage: Any) -> None:
    data = bytes(20_000_000)
    digest = Digest.of(data, SHA256)
    await write_all(storage.store, digest, data)
    call = storage.bytes.Read(bs_pb.ReadRequest(resource_name=name_of(digest)))
    async for _ in call:
        call.cancel()
        break
    assert await read(storage, name_of(digest)) == data


ENDS_MIDWAY = """
import os, signal, sys
import grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2, bytestream_pb2_grpc

target, name = sys.argv[1:]
stub = bytestream_pb2_grpc.ByteStreamStub(grpc.insecure_channel(target))
calls = [stub.Read(bytestream_pb2.ReadRequest(resource_name=name)) for _ in range(6)]
for call in calls:
    next(call)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_readers_killed_midway_leave_nothing_in_the_log(
    storage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytes(20_000_000)
    digest = Digest.of(data, SHA256)
    await write_all(storage.store, digest, data)
    arguments = (sys.executable, "-c", ENDS_MIDWAY, f"127.0.0.1:{storage.port}", name_of(digest))
    readers = [await asyncio.create_subprocess_exec(*arguments) for _ in range(4)]
    assert max([await reader.wait() for reader in readers]) < 0
    await asyncio.sleep(0.1)  # for the server to hear of it
    assert await read(storage, name_of(digest)) == data
    assert not caplog.records
