"""Random and mutated bytes as any message: a precise code, and the server goes on."""

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from server.blobstore.interface import write_all

DATA = b"some data that is there"
DIGEST = Digest.of(DATA, DigestFunction.SHA256)
MESSAGE = DIGEST.to_message()
CAS = "/build.bazel.remote.execution.v2.ContentAddressableStorage/"
CACHE = "/build.bazel.remote.execution.v2.ActionCache/"
STREAM = "/google.bytestream.ByteStream/"
NAME = f"uploads/u/blobs/{DIGEST.hash}/{DIGEST.size}"
UNARY: dict[str, Message] = {
    CAS + "FindMissingBlobs": re_pb.FindMissingBlobsRequest(blob_digests=[MESSAGE] * 3),
    CAS + "BatchUpdateBlobs": re_pb.BatchUpdateBlobsRequest(
        requests=[
            re_pb.BatchUpdateBlobsRequest.Request(digest=MESSAGE, data=DATA, compressor="ZSTD")
        ]
    ),
    CAS + "BatchReadBlobs": re_pb.BatchReadBlobsRequest(
        digests=[MESSAGE], acceptable_compressors=["ZSTD"]
    ),
    CAS + "SplitBlob": re_pb.SplitBlobRequest(
        blob_digest=MESSAGE, chunking_function="FAST_CDC_2020"
    ),
    CAS + "SpliceBlob": re_pb.SpliceBlobRequest(blob_digest=MESSAGE, chunk_digests=[MESSAGE]),
    CACHE + "GetActionResult": re_pb.GetActionResultRequest(
        action_digest=MESSAGE, inline_output_files=["a"]
    ),
    CACHE + "UpdateActionResult": re_pb.UpdateActionResultRequest(
        action_digest=MESSAGE,
        action_result=re_pb.ActionResult(
            output_files=[re_pb.OutputFile(path="a", digest=MESSAGE)], stdout_raw=b"x"
        ),
    ),
    "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities": re_pb.GetCapabilitiesRequest(
        instance_name="a/b"
    ),
    STREAM + "QueryWriteStatus": bs_pb.QueryWriteStatusRequest(resource_name=NAME),
}
STREAMED: dict[str, Message] = {
    CAS + "GetTree": re_pb.GetTreeRequest(root_digest=MESSAGE, page_size=5, page_token="a:1"),
    STREAM + "Read": bs_pb.ReadRequest(
        resource_name=f"blobs/{DIGEST.hash}/{DIGEST.size}", read_offset=3, read_limit=5
    ),
}
WRITE = bs_pb.WriteRequest(resource_name=NAME + "0", write_offset=0, data=DATA, finish_write=True)
PRECISE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
}


def variants(message: Message, source: random.Random) -> Iterator[bytes]:
    """Noise, and the message with bytes changed, cut, doubled and removed."""
    data = message.SerializeToString()
    for _ in range(40):
        yield source.randbytes(source.randrange(60))
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(changed))
            kind = source.randrange(4)
            if kind == 0:
                changed[at] = source.randrange(256)
            elif kind == 1:
                changed[at : at + 1] = b""
            elif kind == 2:
                changed[at:at] = source.randbytes(2)
            else:
                changed[at:at] = changed[: source.randrange(len(changed))]
            if not changed:
                break
        yield bytes(changed)


async def outcome(call: Any, data: bytes, kind: type[Message]) -> grpc.StatusCode:
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        assert error.code() in PRECISE, (error, data)
        assert error.details(), data
        try:
            kind.FromString(data)
        except DecodeError:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        return error.code()
    return grpc.StatusCode.OK


async def still_works(storage: Any) -> None:
    request = re_pb.FindMissingBlobsRequest(blob_digests=[MESSAGE])
    assert not (await storage.cas.FindMissingBlobs(request)).missing_blob_digests
    assert not any((storage.path / "blobs" / "tmp").iterdir())


@pytest.mark.parametrize("method", [*UNARY, *STREAMED])
async def test_requests(storage: Any, method: str) -> None:
    await write_all(storage.store, DIGEST, DATA)
    message = {**UNARY, **STREAMED}[method]
    connect = storage.channel.unary_unary if method in UNARY else storage.channel.unary_stream
    call = connect(method)
    codes = set()
    for data in variants(message, random.Random(method)):
        codes.add(await outcome(call(data), data, type(message)))
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    await still_works(storage)


async def test_streamed_requests(storage: Any) -> None:
    await write_all(storage.store, DIGEST, DATA)
    call = storage.channel.stream_unary(STREAM + "Write")
    source = random.Random(0)
    codes = set()
    for data in variants(WRITE, source):
        parts = [data] if source.random() < 0.7 else [WRITE.SerializeToString(), data]
        codes.add(await outcome(call(iter(parts)), parts[0], bs_pb.WriteRequest))
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    await still_works(storage)
