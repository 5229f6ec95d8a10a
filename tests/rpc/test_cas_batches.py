"""FindMissingBlobs, BatchUpdateBlobs and BatchReadBlobs over the wire."""

import random
import zlib
from typing import Any, cast

import grpc
import pytest
import zstandard
from google.rpc import code_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.memory import MemoryBlobStore
from server.rpc.cas import CasServicer
from server.rpc.terms import Terms

SHA256 = DigestFunction.SHA256
LIMIT = 4 * 1024 * 1024 - 192 * 1024


def message_of(data: bytes, function: DigestFunction = SHA256) -> re_pb.Digest:
    return Digest.of(data, function).to_message()


async def update(storage: Any, *blobs: Any, **fields: Any) -> list[Any]:
    """Store blobs, given as data or as whole requests; returns the statuses."""
    request = re_pb.BatchUpdateBlobsRequest(**fields)
    for blob in blobs:
        if isinstance(blob, bytes):
            blob = re_pb.BatchUpdateBlobsRequest.Request(digest=message_of(blob), data=blob)
        request.requests.append(blob)
    response = await storage.cas.BatchUpdateBlobs(request)
    return [each.status for each in response.responses]


async def find_missing(storage: Any, *digests: re_pb.Digest, **fields: Any) -> list[re_pb.Digest]:
    request = re_pb.FindMissingBlobsRequest(blob_digests=digests, **fields)
    response = await storage.cas.FindMissingBlobs(request)
    return list(response.missing_blob_digests)


async def read(storage: Any, *digests: re_pb.Digest, **fields: Any) -> list[Any]:
    request = re_pb.BatchReadBlobsRequest(digests=digests, **fields)
    return list((await storage.cas.BatchReadBlobs(request)).responses)


@pytest.mark.row(9)
async def test_exactly_the_absent_ones_are_missing(storage: Any) -> None:
    await update(storage, b"there", b"also there")
    absent = [message_of(b"not there"), message_of(b"nor this")]
    asked = [message_of(b"there"), absent[0], message_of(b"also there"), absent[1]]
    assert await find_missing(storage, *asked) == absent
    assert await find_missing(storage) == []


@pytest.mark.row(8)
@pytest.mark.row(12)
@pytest.mark.parametrize("function", DigestFunction, ids=lambda function: function.label)
async def test_the_empty_blob_is_there_without_upload(
    storage: Any, function: DigestFunction
) -> None:
    empty = message_of(b"", function)
    assert await find_missing(storage, empty, digest_function=function.number) == []
    (answer,) = await read(storage, empty, digest_function=function.number)
    assert (answer.status.code, answer.data) == (0, b"")


@pytest.mark.row(11)
@pytest.mark.parametrize(
    "function", [f for f in DigestFunction if not f.is_named_in_paths], ids=lambda f: f.label
)
async def test_the_function_follows_from_the_length(storage: Any, function: DigestFunction) -> None:
    digest = message_of(b"data", function)
    blob = re_pb.BatchUpdateBlobsRequest.Request(digest=digest, data=b"data")
    assert [status.code for status in await update(storage, blob)] == [0]
    assert await find_missing(storage, digest) == []
    assert await find_missing(storage, digest, digest_function=function.number) == []
    (answer,) = await read(storage, digest)
    assert answer.data == b"data"


@pytest.mark.row(12)
@pytest.mark.row(110)
@pytest.mark.row(111)
@pytest.mark.parametrize(
    "function", [f for f in DigestFunction if f.is_named_in_paths], ids=lambda f: f.label
)
async def test_a_function_of_ambiguous_length_must_be_named(
    storage: Any, function: DigestFunction
) -> None:
    data = random.Random(1).randbytes(5000)
    digest = message_of(data, function)
    blob = re_pb.BatchUpdateBlobsRequest.Request(digest=digest, data=data)
    number = function.number
    assert [s.code for s in await update(storage, blob, digest_function=number)] == [0]
    assert await find_missing(storage, digest, digest_function=number) == []
    assert await find_missing(storage, digest) == [digest]  # taken for SHA256 or SHA1


@pytest.mark.row(111)
async def test_gitsha1_is_that_of_git(storage: Any) -> None:
    # What `git hash-object` says about a file with this line.
    digest = re_pb.Digest(hash="ce013625030ba8dba906f756967f9e9ca394464a", size_bytes=6)
    blob = re_pb.BatchUpdateBlobsRequest.Request(digest=digest, data=b"hello\n")
    number = DigestFunction.GITSHA1.number
    assert [s.code for s in await update(storage, blob, digest_function=number)] == [0]


@pytest.mark.row(11)
async def test_digests_of_two_functions_in_one_request_are_refused(storage: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await find_missing(storage, message_of(b"a"), message_of(b"b", DigestFunction.SHA1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


GOOD = message_of(b"good")


@pytest.mark.row(1)
@pytest.mark.row(2)
@pytest.mark.parametrize(
    ("hash_", "size", "complaint"),
    [
        (GOOD.hash.upper(), 4, "lowercase"),
        (GOOD.hash[:-1], 4, "63 characters"),
        (GOOD.hash + "0", 4, "65 characters"),
        (GOOD.hash[:-1] + "g", 4, "hexadecimal"),
        ("", 4, "0 characters"),
        (GOOD.hash, -1, "negative"),
        (GOOD.hash, 0, "empty blob"),
        (message_of(b"").hash, 7, "empty blob"),
        ("../../../../etc/passwd", 4, "22 characters"),
    ],
)
async def test_malformed_digests_are_refused(
    storage: Any, hash_: str, size: int, complaint: str
) -> None:
    bad = re_pb.Digest(hash=hash_, size_bytes=size)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await find_missing(storage, bad)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in (caught.value.details() or "")
    blob = re_pb.BatchUpdateBlobsRequest.Request(digest=bad, data=b"good")
    statuses = await update(storage, blob, b"fine")
    assert [status.code for status in statuses] == [code_pb2.INVALID_ARGUMENT, 0]
    answers = await read(storage, bad, message_of(b"fine"))
    assert answers[0].status.code == code_pb2.INVALID_ARGUMENT
    assert (answers[1].status.code, answers[1].data) == (0, b"fine")


@pytest.mark.row(2)
async def test_the_right_hash_with_a_wrong_size_is_another_blob(storage: Any) -> None:
    await update(storage, b"good")
    wrong = re_pb.Digest(hash=GOOD.hash, size_bytes=5)
    assert await find_missing(storage, wrong) == [wrong]
    (answer,) = await read(storage, wrong)
    assert answer.status.code == code_pb2.NOT_FOUND
    blob = re_pb.BatchUpdateBlobsRequest.Request(digest=wrong, data=b"good")
    assert [s.code for s in await update(storage, blob)] == [code_pb2.INVALID_ARGUMENT]


@pytest.mark.row(13)
@pytest.mark.row(14)
async def test_each_blob_of_an_update_stands_alone(storage: Any) -> None:
    lie = re_pb.BatchUpdateBlobsRequest.Request(digest=message_of(b"truth"), data=b"false")
    statuses = await update(storage, b"first", lie, b"last")
    assert [status.code for status in statuses] == [0, code_pb2.INVALID_ARGUMENT, 0]
    assert "hash" in statuses[1].message
    asked = [message_of(data) for data in (b"first", b"truth", b"false", b"last")]
    assert await find_missing(storage, *asked) == asked[1:3]


async def test_a_batch_of_many_blobs(storage: Any) -> None:
    blobs = [str(number).encode() for number in range(1000)]
    assert {status.code for status in await update(storage, *blobs)} == {0}
    answers = await read(storage, *map(message_of, blobs))
    assert [answer.data for answer in answers] == blobs


async def test_one_blob_twice_in_a_batch(storage: Any) -> None:
    assert [status.code for status in await update(storage, b"twice", b"twice")] == [0, 0]
    answers = await read(storage, message_of(b"twice"), message_of(b"twice"))
    assert [answer.data for answer in answers] == [b"twice", b"twice"]


@pytest.mark.row(15)
@pytest.mark.row(20)
async def test_a_batch_up_to_the_limit_works_and_none_beyond(storage: Any) -> None:
    half = random.Random(2).randbytes(LIMIT // 2)
    other = random.Random(3).randbytes(LIMIT - len(half))
    assert [s.code for s in await update(storage, half, other)] == [0, 0]
    answers = await read(storage, message_of(half), message_of(other))
    assert [answer.data for answer in answers] == [half, other]
    beyond = b"one byte too many"[:1]
    for call in (
        update(storage, half, other, beyond),
        read(storage, message_of(half), message_of(other), message_of(beyond)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(LIMIT) in (caught.value.details() or "")
    assert await find_missing(storage, message_of(beyond)) == [message_of(beyond)]


@pytest.mark.row(18)
async def test_reading_reports_each_absent_blob(storage: Any) -> None:
    await update(storage, b"there")
    answers = await read(storage, message_of(b"there"), message_of(b"absent"))
    assert [answer.status.code for answer in answers] == [0, code_pb2.NOT_FOUND]
    assert [answer.digest for answer in answers] == [message_of(b"there"), message_of(b"absent")]
    assert "not in the store" in answers[1].status.message


@pytest.mark.row(21)
async def test_blobs_over_the_size_limit_are_refused(serve: Any) -> None:
    storage = await serve(max_blob_bytes=100)
    statuses = await update(storage, bytes(100), bytes(101))
    assert [status.code for status in statuses] == [0, code_pb2.INVALID_ARGUMENT]


@pytest.mark.row(16)
async def test_without_room_each_blob_says_so() -> None:
    servicer = CasServicer(store=MemoryBlobStore(max_bytes=100), terms=Terms())
    request = re_pb.BatchUpdateBlobsRequest()
    for size in (60, 61, 40):
        request.requests.add(digest=message_of(bytes(size)), data=bytes(size))
    response = await servicer.BatchUpdateBlobs(request, cast(Any, None))
    codes = [each.status.code for each in response.responses]
    assert codes == [0, code_pb2.RESOURCE_EXHAUSTED, 0]


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


COMPRESS = {1: zstandard.ZstdCompressor().compress, 2: raw_deflate}
DECOMPRESS = {
    1: zstandard.ZstdDecompressor().decompress,
    2: lambda data: zlib.decompress(data, wbits=-15),
}
TEXT = b"a line that repeats itself\n" * 1000


@pytest.mark.row(17)
@pytest.mark.parametrize("compressor", [1, 2])
async def test_compressed_data_in_a_batch(storage: Any, compressor: Any) -> None:
    blob = re_pb.BatchUpdateBlobsRequest.Request(
        digest=message_of(TEXT), data=COMPRESS[compressor](TEXT), compressor=compressor
    )
    assert [status.code for status in await update(storage, blob)] == [0]
    (answer,) = await read(storage, message_of(TEXT))
    assert (answer.data, answer.compressor) == (TEXT, 0)


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("data", "compressor"),
    [
        (TEXT, 1),
        (TEXT, 3),
        (TEXT, 99),
        (COMPRESS[1](TEXT)[:-3], 1),
        (COMPRESS[1](TEXT) + b"garbage", 1),
        (COMPRESS[1](TEXT + b"more"), 1),
        (COMPRESS[1](TEXT[:-1]), 1),
        (COMPRESS[1](bytes(200_000_000)), 1),
        (b"", 1),
        (COMPRESS[2](TEXT)[:-3], 2),
        (COMPRESS[2](TEXT) + b"garbage", 2),
        (COMPRESS[2](bytes(50_000_000)), 2),
        (zlib.compress(TEXT), 2),
        (COMPRESS[1](TEXT), 0),
    ],
)
async def test_bad_compressed_data_is_refused(storage: Any, data: bytes, compressor: Any) -> None:
    blob = re_pb.BatchUpdateBlobsRequest.Request(
        digest=message_of(TEXT), data=data, compressor=compressor
    )
    statuses = await update(storage, blob, b"fine")
    assert [status.code for status in statuses] == [code_pb2.INVALID_ARGUMENT, 0]
    assert statuses[0].message
    assert await find_missing(storage, message_of(TEXT)) == [message_of(TEXT)]


@pytest.mark.row(19)
@pytest.mark.parametrize("accepted", [[1], [2], [3, 1], [0, 2], [0], [3], [], [77]])
async def test_answers_are_compressed_only_as_accepted(storage: Any, accepted: Any) -> None:
    await update(storage, TEXT, b"short")
    answers = await read(
        storage, message_of(TEXT), message_of(b"short"), acceptable_compressors=accepted
    )
    for answer, data in zip(answers, (TEXT, b"short"), strict=True):
        assert answer.compressor in {0, *accepted}
        assert DECOMPRESS.get(answer.compressor, bytes)(answer.data) == data


@pytest.mark.row(26)
@pytest.mark.parametrize("instance", ["", "main", "a/b/c", "with space", "ünïcode"])
async def test_blobs_are_shared_among_instances(storage: Any, instance: str) -> None:
    await update(storage, b"shared", instance_name="other/one")
    assert await find_missing(storage, message_of(b"shared"), instance_name=instance) == []


@pytest.mark.row(26)
@pytest.mark.parametrize(
    "instance",
    [
        *("blobs", "a/uploads", "actions/b", "actionResults", "operations", "capabilities"),
        *("compressed-blobs", "/a", "a/", "a//b", "..", "a/./b", "a\0b", "x" * 2000),
    ],
)
async def test_bad_instance_names_are_refused(storage: Any, instance: str) -> None:
    for call in (
        find_missing(storage, instance_name=instance),
        update(storage, instance_name=instance),
        read(storage, instance_name=instance),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "instance name" in (caught.value.details() or "")


async def test_unknown_instances_are_refused(serve: Any) -> None:
    storage = await serve(instances=frozenset({"", "known"}))
    assert await find_missing(storage, instance_name="known") == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await find_missing(storage, instance_name="unknown")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no instance 'unknown'" in (caught.value.details() or "")


@pytest.mark.parametrize("number", [4, 7, 77])
async def test_unknown_digest_functions_are_refused(storage: Any, number: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await find_missing(storage, GOOD, digest_function=number)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_functions_can_be_switched_off(serve: Any) -> None:
    storage = await serve(digest_functions=(DigestFunction.BLAKE3,))
    number = DigestFunction.BLAKE3.number
    digest = message_of(b"x", DigestFunction.BLAKE3)
    assert await find_missing(storage, digest, digest_function=number) == [digest]
    for function in (0, DigestFunction.SHA256.number):
        with pytest.raises(grpc.aio.AioRpcError):
            await find_missing(storage, GOOD, digest_function=function)


async def test_hundreds_of_thousands_of_digests(storage: Any) -> None:
    await update(storage, b"there")
    request = re_pb.FindMissingBlobsRequest()
    for number in range(200_000):
        request.blob_digests.add(hash=f"{number:064x}", size_bytes=1)
    request.blob_digests.append(message_of(b"there"))
    response = await storage.cas.FindMissingBlobs(request)
    assert len(response.missing_blob_digests) == 200_000


@pytest.mark.row(10)
async def test_asking_extends_lifetimes(storage: Any) -> None:
    await update(storage, b"first", b"second")
    await find_missing(storage, message_of(b"first"))
    order = [digest for digest, _, _ in storage.store.uses()]
    assert order == [Digest.of(b"second", SHA256), Digest.of(b"first", SHA256)]
