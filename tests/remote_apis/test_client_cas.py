"""The CAS client against the real servicers, and against ones that lie or break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.client.blobs import BlobSource, DamagedBlob
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel
from remote_apis.client.packing import batches, chunked
from remote_apis.client.settings import (
    REQUEST_METADATA_HEADER,
    ClientLimits,
    RetryPolicy,
    limits_of_server,
    request_metadata,
)
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import (
    BlobNotFound,
    InvalidRequest,
    MissingBlobs,
    OutOfSpace,
    Unavailable,
)
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.blobstore.memory import MemoryBlobStore
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.cas import CasServicer
from server.rpc.handlers import StatusHandlers
from server.rpc.terms import Terms

SHA256 = DigestFunction.SHA256
MIB = 1024 * 1024
FAST = RetryPolicy(attempts=4, first_delay=0.001, max_delay=0.01)
COMPRESSED = ClientLimits(compressor=Compressor.ZSTD, update_compressor=Compressor.ZSTD)
_Context = grpc.aio.ServicerContext[Any, Any]
AddServices = Callable[[StatusHandlers], None]


@asynccontextmanager
async def serving(add: AddServices, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A server with some services; its URL."""
    methods = StatusHandlers()
    add(methods)
    server = methods.server([("grpc.max_receive_message_length", 4 * MIB)])
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield address if address.startswith("unix:") else f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def real_cas(
    address: str = "127.0.0.1:0", limits: ClientLimits | None = None, **store: int
) -> AsyncIterator[CasClient]:
    """A client of the real services, with an instance name of several segments."""
    blobs = MemoryBlobStore(**store)
    stream = ByteStreamServicer(store=blobs, terms=Terms())

    def add(methods: StatusHandlers) -> None:
        re_grpc.add_ContentAddressableStorageServicer_to_server(
            CasServicer(store=blobs, terms=Terms()), methods
        )
        bs_grpc.add_ByteStreamServicer_to_server(stream, methods)

    async with serving(add, address) as url, open_channel(url) as channel:
        yield CasClient(channel, instance="some/instance", limits=limits)
    await stream.close()


def blob(size: int, function: DigestFunction = SHA256, seed: int = 0) -> BlobSource:
    """A blob of some size."""
    pattern = b"%d %d " % (size, seed)
    content = (pattern * (size // len(pattern) + 1))[:size]
    return BlobSource(Digest.of(content, function), content)


@pytest.mark.row(11)
@pytest.mark.row(12)
@pytest.mark.parametrize("function", list(DigestFunction))
@pytest.mark.parametrize("limits", [ClientLimits(), COMPRESSED], ids=["plain", "zstd"])
async def test_blobs_of_all_sizes_there_and_back(
    function: DigestFunction, limits: ClientLimits, tmp_path: Path
) -> None:
    sizes = [0, 1, 1000, MIB - 1, MIB, MIB + 1, 3 * MIB + 17]
    sources = [blob(size, function) for size in sizes]
    async with real_cas(limits=limits) as cas:
        digests = [source.digest for source in sources]
        assert await cas.find_missing(digests) == set(digests[1:])
        assert await cas.upload_missing(sources) == set(digests[1:])
        assert await cas.upload_missing(sources) == set()
        contents = await cas.read_many(digests)
        assert contents == {source.digest: source.content for source in sources}
        for source in sources:
            assert await cas.read(source.digest) == source.content
            await cas.download(source.digest, tmp_path / "file", mode=0o555)
            assert (tmp_path / "file").read_bytes() == source.content
            assert (tmp_path / "file").stat().st_mode & 0o777 == 0o555
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_digest_functions_can_be_mixed_in_one_call() -> None:
    sources = [blob(10 + n, function) for n, function in enumerate(DigestFunction)]
    async with real_cas() as cas:
        await cas.upload(sources)
        assert not await cas.find_missing(source.digest for source in sources)
        assert len(await cas.read_many(source.digest for source in sources)) == len(sources)


async def test_files_are_uploaded_from_the_disk(tmp_path: Path) -> None:
    sources = []
    for size in (0, 5, MIB + 1):
        source = blob(size)
        path = tmp_path / str(size)
        path.write_bytes(source.load())
        sources.append(BlobSource(source.digest, path))
    async with real_cas() as cas:
        await cas.upload(sources)
        assert await cas.read(sources[2].digest) == (tmp_path / str(MIB + 1)).read_bytes()
        (tmp_path / "5").unlink()
        with pytest.raises(FileNotFoundError):
            await cas.upload(sources)
        (tmp_path / str(MIB + 1)).unlink()
        with pytest.raises(FileNotFoundError):
            await cas.upload(sources[2:])


@pytest.mark.parametrize("change", ["shorter", "longer", "other"])
@pytest.mark.parametrize("limits", [ClientLimits(), COMPRESSED], ids=["plain", "zstd"])
async def test_a_file_that_changed_is_not_stored(
    tmp_path: Path, change: str, limits: ClientLimits
) -> None:
    for size in (100, 2 * MIB + 5):
        source = blob(size, seed=1)
        content = source.load()
        changed = {"shorter": content[:-1], "longer": content + b"x", "other": b"x" + content[1:]}
        path = tmp_path / "file"
        path.write_bytes(changed[change])
        async with real_cas(limits=limits) as cas:
            with pytest.raises(InvalidRequest):
                await cas.upload([BlobSource(source.digest, path)])
            assert await cas.find_missing([source.digest]) == {source.digest}


async def test_thousands_of_small_blobs() -> None:
    sources = [blob(200, seed=n) for n in range(3000)]
    limits = ClientLimits(batch_bytes=100_000, find_missing_digests=700)
    async with real_cas(limits=limits) as cas:
        assert len(await cas.upload_missing(sources)) == 3000
        contents = await cas.read_many(source.digest for source in sources)
        assert all(contents[source.digest] == source.content for source in sources)


async def test_missing_blobs_are_all_named() -> None:
    there, gone, gone_too = blob(10), blob(20), blob(2 * MIB)
    async with real_cas() as cas:
        await cas.upload([there])
        with pytest.raises(MissingBlobs) as raised:
            await cas.read_many([there.digest, gone.digest, gone_too.digest])
        assert set(raised.value.digests) == {gone.digest, gone_too.digest}
        for digest in (gone.digest, gone_too.digest):
            with pytest.raises(BlobNotFound):
                await cas.read(digest)


async def test_a_failed_download_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    async with real_cas() as cas:
        with pytest.raises(BlobNotFound):
            await cas.download(blob(20).digest, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_a_full_store() -> None:
    async with real_cas(max_bytes=1000) as cas:
        with pytest.raises(OutOfSpace):
            await cas.upload([blob(2000)])
        with pytest.raises(OutOfSpace):
            await cas.upload([blob(2 * MIB)])


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with real_cas(f"unix:{tmp_path / 'socket'}") as cas:
        await cas.upload([blob(5), blob(2 * MIB)])
        assert await cas.read(blob(2 * MIB).digest) == blob(2 * MIB).content


async def test_a_server_that_is_not_there() -> None:
    async with open_channel("grpc://127.0.0.1:1") as channel:
        cas = CasClient(channel, limits=ClientLimits(retry=FAST))
        with pytest.raises(Unavailable):
            await cas.find_missing([blob(5).digest])
        with pytest.raises(Unavailable):
            await cas.read(blob(5).digest)
        with pytest.raises(Unavailable):
            await cas.upload([blob(5)])
        with pytest.raises(Unavailable):
            await cas.upload([blob(2 * MIB)])


class BrokenStream(bs_grpc.ByteStreamServicer):
    """Breaks off after some messages, as often as told; or sends other bytes."""

    def __init__(self, content: bytes, *, breaks: int = 0, damaged: bytes | None = None) -> None:
        self.content = content
        self.breaks = breaks
        self.damaged = damaged
        self.reads: list[int] = []
        self.written: list[bytes] = []
        self.metadata: list[dict[str, Any]] = []

    async def Read(
        self, request: bs_pb.ReadRequest, context: _Context
    ) -> AsyncIterator[bs_pb.ReadResponse]:
        self.reads.append(request.read_offset)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        content = self.damaged if self.damaged is not None else self.content
        for start in range(request.read_offset, len(content), MIB):
            yield bs_pb.ReadResponse(data=content[start : start + MIB])
            if self.breaks:
                self.breaks -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async def Write(
        self, request_iterator: AsyncIterator[bs_pb.WriteRequest], context: _Context
    ) -> bs_pb.WriteResponse:
        data = b""
        async for request in request_iterator:
            data += request.data
            if self.breaks:
                self.breaks -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        self.written.append(data)
        return bs_pb.WriteResponse(committed_size=len(data))


@asynccontextmanager
async def broken_cas(stream: BrokenStream, **limits: Any) -> AsyncIterator[CasClient]:
    async with (
        serving(lambda methods: bs_grpc.add_ByteStreamServicer_to_server(stream, methods)) as url,
        open_channel(url) as channel,
    ):
        yield CasClient(channel, limits=ClientLimits(**({"retry": FAST} | limits)))


async def test_a_read_goes_on_where_it_broke_off() -> None:
    source = blob(3 * MIB + 5)
    stream = BrokenStream(source.load(), breaks=3)
    async with broken_cas(stream) as cas:
        assert await cas.read(source.digest) == source.content
    assert stream.reads == [0, MIB, 2 * MIB, 3 * MIB]


async def test_an_upload_that_broke_off_is_repeated() -> None:
    source = blob(3 * MIB + 5)
    stream = BrokenStream(b"", breaks=2)
    async with broken_cas(stream) as cas:
        await cas.upload([source])
    assert stream.written == [source.content]
    stream.breaks = 100
    async with broken_cas(stream) as cas:
        with pytest.raises(Unavailable):
            await cas.upload([source])


@pytest.mark.parametrize("damage", ["other", "shorter", "longer", "empty"])
async def test_damaged_blobs_are_as_good_as_none(damage: str, tmp_path: Path) -> None:
    source = blob(2 * MIB)
    content = source.load()
    damaged = {
        "other": content[:-1] + b"!",
        "shorter": content[:-1],
        "longer": content + b"!",
        "empty": b"",
    }[damage]
    stream = BrokenStream(content, damaged=damaged)
    async with broken_cas(stream) as cas:
        with pytest.raises(DamagedBlob):
            await cas.read(source.digest)
        with pytest.raises(MissingBlobs):
            await cas.read_many([source.digest])
        with pytest.raises(BlobNotFound):
            await cas.download(source.digest, tmp_path / "file")
        pieces = []
        with pytest.raises(BlobNotFound):
            async for piece in cas.stream(source.digest):
                pieces.append(piece)
        assert sum(map(len, pieces)) < source.digest.size
    assert not list(tmp_path.iterdir())


class LyingCas(re_grpc.ContentAddressableStorageServicer):
    """Answers batches with other bytes, or with nothing."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    async def BatchReadBlobs(
        self, request: re_pb.BatchReadBlobsRequest, context: _Context
    ) -> re_pb.BatchReadBlobsResponse:
        response = re_pb.BatchReadBlobsResponse()
        if self.answer is not None:
            for digest in request.digests:
                response.responses.add(digest=digest, data=self.answer)
        return response


@pytest.mark.parametrize("answer", [b"other", b"", None])
async def test_a_batch_with_wrong_answers(answer: bytes | None) -> None:
    servicer = LyingCas(answer)
    async with (
        serving(
            lambda s: re_grpc.add_ContentAddressableStorageServicer_to_server(servicer, s)
        ) as url,
        open_channel(url) as channel,
    ):
        with pytest.raises(MissingBlobs) as raised:
            await CasClient(channel).read_many([blob(100).digest, blob(200).digest])
        assert set(raised.value.digests) == {blob(100).digest, blob(200).digest}


async def test_a_cancelled_read_ends_the_call() -> None:
    source = blob(64 * MIB)
    stream = BrokenStream(source.load())
    async with broken_cas(stream) as cas:
        task = asyncio.create_task(cas.read(source.digest))
        while not stream.reads:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.row(107)
async def test_the_metadata_goes_along() -> None:
    message = re_pb.RequestMetadata(tool_invocation_id="build 7")
    source = blob(5 * MIB)
    stream = BrokenStream(source.load())
    async with broken_cas(stream) as cas:
        await cas.with_metadata(request_metadata(message)).read(source.digest)
    header = stream.metadata[0][REQUEST_METADATA_HEADER]
    assert re_pb.RequestMetadata.FromString(header) == message


@pytest.mark.row(20)
def test_a_servers_batch_limit_is_kept() -> None:
    limits = limits_of_server(
        re_pb.CacheCapabilities(max_batch_total_size_bytes=1000), ClientLimits()
    )
    assert (limits.batch_bytes, limits.small_blob_bytes) == (1000, 1000)
    same = ClientLimits()
    assert limits_of_server(re_pb.CacheCapabilities(), same) is same


@given(
    sizes=st.lists(st.integers(1, 2000), max_size=60),
    batch_bytes=st.integers(1, 5000),
    count=st.integers(1, 7),
)
def test_packing_loses_nothing_and_keeps_to_the_limit(
    sizes: list[int], batch_bytes: int, count: int
) -> None:
    digests = [
        Digest(list(DigestFunction)[n % 3], f"{n:064x}", size) for n, size in enumerate(sizes)
    ]
    limits = ClientLimits(batch_bytes=batch_bytes, batch_digests=count)
    packed = list(batches(digests, limits))
    assert {digest for batch in packed for digest in batch} == set(digests)
    assert sum(map(len, packed)) == len(digests)
    for batch in packed:
        assert len({digest.function for digest in batch}) == 1
        assert len(batch) == 1 or (
            len(batch) <= count and sum(digest.size for digest in batch) <= batch_bytes
        )
    for chunk in chunked(digests, count):
        assert 0 < len(chunk) <= count
