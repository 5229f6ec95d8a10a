"""What a client of ByteStream.Write does, for the tests of it."""

import asyncio
import random
import uuid
import zlib
from collections.abc import Iterable
from typing import Any

import grpc
import pytest
import zstandard

from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.resource_names import BlobName
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb

SHA256 = DigestFunction.SHA256
DATA = random.Random(0).randbytes(2_500_000)
DIGEST = Digest.of(DATA, SHA256)
HEADER = "build.bazel.remote.execution.v2.resource-name"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
COMPRESSORS = [Compressor.ZSTD, Compressor.DEFLATE]


def compress(data: bytes, compressor: Compressor) -> bytes:
    if compressor is Compressor.ZSTD:
        return zstandard.ZstdCompressor().compress(data)
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def name_of(
    digest: Digest = DIGEST,
    compressor: Compressor = Compressor.IDENTITY,
    instance: str = "",
    upload_id: str = "",
) -> str:
    blob = BlobName(instance=instance, digest=digest, compressor=compressor)
    return blob.to_write(upload_id or str(uuid.uuid4()))


def messages(
    name: str, data: bytes, *, offset: int = 0, step: int = 700_000, finish: bool = True
) -> list[bs_pb.WriteRequest]:
    """What a correct client sends for these bytes."""
    parts = [data[start : start + step] for start in range(0, len(data), step)] or [b""]
    out = []
    for number, part in enumerate(parts):
        out.append(
            bs_pb.WriteRequest(
                resource_name="" if number else name,
                write_offset=offset,
                data=part,
                finish_write=finish and number == len(parts) - 1,
            )
        )
        offset += len(part)
    return out


async def write(storage: Any, requests: Iterable[bs_pb.WriteRequest], **options: Any) -> int:
    size: int = (await storage.bytes.Write(iter(requests), **options)).committed_size
    return size


async def refusal(storage: Any, requests: Iterable[bs_pb.WriteRequest]) -> str:
    """The message of an INVALID_ARGUMENT."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write(storage, requests)
    assert caught.value.code() is INVALID, caught.value
    return caught.value.details() or ""


async def status(storage: Any, name: str) -> tuple[int, bool]:
    answer = await storage.bytes.QueryWriteStatus(bs_pb.QueryWriteStatusRequest(resource_name=name))
    return answer.committed_size, answer.complete


async def is_there(storage: Any, digest: Digest = DIGEST) -> bool:
    return not await storage.store.find_missing([digest])


async def break_off(storage: Any, name: str, data: bytes, offset: int = 0) -> None:
    """Send some bytes and vanish once the server has them."""
    call = storage.bytes.Write()
    for message in messages(name, data, offset=offset, finish=False):
        await call.write(message)
    async with asyncio.timeout(20):
        while True:
            try:
                if (await status(storage, name))[0] >= offset + len(data):
                    break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
            await asyncio.sleep(0.01)
    call.cancel()
