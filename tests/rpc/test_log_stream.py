"""Log streams over the wire: made by LogStreamService, written and followed by ByteStream."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2 as ls_pb
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2_grpc as ls_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.blobstore.memory import MemoryBlobStore
from server.logstream.streams import LogStreams
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.handlers import StatusHandlers
from server.rpc.log_stream import LogByteStreams, LogStreamServicer
from server.rpc.terms import Terms

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@dataclass(kw_only=True)
class Logs:
    """Clients of a server with log streams."""

    service: Any
    bytes: Any
    streams: LogStreams

    async def create(self, parent: str = "builds/7") -> ls_pb.LogStream:
        request = ls_pb.CreateLogStreamRequest(parent=parent)
        stream: ls_pb.LogStream = await self.service.CreateLogStream(request)
        return stream

    async def write(self, *messages: bs_pb.WriteRequest) -> int:
        response = await self.bytes.Write(iter(messages), timeout=20)
        return int(response.committed_size)

    def follow(self, name: str, offset: int = 0, limit: int = 0) -> Any:
        request = bs_pb.ReadRequest(resource_name=name, read_offset=offset, read_limit=limit)
        return self.bytes.Read(request, timeout=20)

    async def read(self, name: str, offset: int = 0, limit: int = 0) -> bytes:
        return b"".join([r.data async for r in self.follow(name, offset, limit)])

    async def status(self, name: str) -> tuple[int, bool]:
        request = bs_pb.QueryWriteStatusRequest(resource_name=name)
        response = await self.bytes.QueryWriteStatus(request)
        return response.committed_size, response.complete


def message(
    stream: ls_pb.LogStream, data: bytes, offset: int, *, finish: bool = False, name: bool = True
) -> bs_pb.WriteRequest:
    return bs_pb.WriteRequest(
        resource_name=stream.write_resource_name if name else "",
        write_offset=offset,
        data=data,
        finish_write=finish,
    )


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a server; keywords as LogStreams'."""
    async with AsyncExitStack() as stack:

        async def run(**limits: Any) -> Logs:
            streams = LogStreams(tmp_path / "logs", **limits)
            stack.callback(streams.close)
            methods = StatusHandlers()
            ls_grpc.add_LogStreamServiceServicer_to_server(
                LogStreamServicer(streams=streams), methods
            )
            servicer = ByteStreamServicer(
                store=MemoryBlobStore(), terms=Terms(), others=[LogByteStreams(streams)]
            )
            stack.push_async_callback(servicer.close)
            bs_grpc.add_ByteStreamServicer_to_server(servicer, methods)
            server = methods.server()
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, 0)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            stack.push_async_callback(channel.close)
            return Logs(
                service=ls_grpc.LogStreamServiceStub(channel),
                bytes=bs_grpc.ByteStreamStub(channel),
                streams=streams,
            )

        yield run


@pytest.fixture
async def logs(start: Start) -> Logs:
    found: Logs = await start()
    return found


async def refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.details()
    return caught.value.code()


@pytest.mark.row(117)
@pytest.mark.parametrize("parent", ["", "builds/7", "instance/operations/abc", "a b/\u00e4"])
async def test_the_names_have_the_form_that_the_protocol_gives(logs: Logs, parent: str) -> None:
    stream, other = await logs.create(parent), await logs.create(parent)
    prefix = f"{parent}/logstreams/" if parent else "logstreams/"
    assert stream.name.startswith(prefix)
    assert "/" not in stream.name.removeprefix(prefix)
    token = stream.write_resource_name.removeprefix(stream.name + "/")
    assert token and "/" not in token and token != stream.write_resource_name
    assert len({stream.name, other.name, token, other.write_resource_name}) == 4


@pytest.mark.parametrize(
    "parent", ["/", "a//b", "a/", "..", "a/./b", "x/blobs/y", "a/logstreams/b", "a\nb", "a" * 2000]
)
async def test_a_malformed_parent_is_refused(logs: Logs, parent: str) -> None:
    assert await refused(logs.create(parent)) is INVALID


@pytest.mark.row(117)
async def test_each_name_is_good_for_one_direction(logs: Logs) -> None:
    stream = await logs.create()
    to_name = bs_pb.WriteRequest(resource_name=stream.name, data=b"x")
    assert await refused(logs.write(to_name)) is INVALID
    assert await refused(logs.read(stream.write_resource_name)) is INVALID
    assert await refused(logs.status(stream.name)) is INVALID
    assert await logs.status(stream.write_resource_name) == (0, False)


async def test_names_of_no_stream_are_not_found(logs: Logs) -> None:
    stream = await logs.create()
    name, token = stream.write_resource_name.rsplit("/", 1)
    for wrong in (f"{name}/{token[::-1]}x", f"other/{name}/{token}", "a/logstreams/b/c"):
        assert await refused(logs.write(bs_pb.WriteRequest(resource_name=wrong))) is NOT_FOUND
        assert await refused(logs.status(wrong)) is NOT_FOUND
    for wrong in (f"other/{name}", "logstreams/nobody"):
        assert await refused(logs.read(wrong)) is NOT_FOUND
    for wrong in ("logstreams/", "logstreams", "/logstreams/a", "a/logstreams/b/c/d"):
        assert await refused(logs.read(wrong)) is INVALID


@pytest.mark.row(118)
@pytest.mark.row(73)
async def test_a_reader_gets_bytes_as_they_are_committed_until_the_end(logs: Logs) -> None:
    stream = await logs.create()
    reading = logs.follow(stream.name)
    following = asyncio.ensure_future(reading.read())
    await asyncio.sleep(0.1)
    assert not following.done()

    call = logs.bytes.Write(timeout=20)
    await call.write(message(stream, b"one ", 0))
    assert (await following).data == b"one "
    await call.write(message(stream, b"two ", 4, name=False))
    assert (await reading.read()).data == b"two "
    following = asyncio.ensure_future(reading.read())
    await asyncio.sleep(0.1)
    assert not following.done()
    await call.write(message(stream, b"three", 8, finish=True, name=False))
    assert (await following).data == b"three"
    assert await reading.read() is grpc.aio.EOF
    await call.done_writing()
    assert (await call).committed_size == 13
    assert await logs.status(stream.write_resource_name) == (13, True)
    assert await logs.read(stream.name) == b"one two three"


@pytest.mark.row(118)
async def test_writers_go_on_where_the_last_one_stopped(logs: Logs) -> None:
    stream = await logs.create()
    assert await logs.write(message(stream, b"abc", 0)) == 3
    assert await logs.status(stream.write_resource_name) == (3, False)
    for offset in (0, 2, 4, -1):
        assert await refused(logs.write(message(stream, b"xyz", offset))) is INVALID
    assert await logs.write(message(stream, b"def", 3), message(stream, b"", 6, finish=True)) == 6
    assert await logs.read(stream.name) == b"abcdef"


@pytest.mark.row(118)
async def test_a_finished_stream_never_changes(logs: Logs) -> None:
    stream = await logs.create()
    await logs.write(message(stream, b"abc", 0, finish=True))
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    assert await refused(logs.write(message(stream, b"d", 3))) is precondition
    assert await refused(logs.write(message(stream, b"xyz", 0, finish=True))) is precondition
    assert await logs.write(message(stream, b"", 3, finish=True)) == 3
    assert await logs.read(stream.name) == b"abc"


async def test_messages_that_do_not_fit_together_are_refused(logs: Logs) -> None:
    stream, other = await logs.create(), await logs.create()
    first = message(stream, b"abc", 0)
    assert await refused(logs.write(first, message(other, b"def", 3))) is INVALID
    last = message(stream, b"def", 3, finish=True)
    assert await refused(logs.write(last, message(stream, b"", 6))) is INVALID
    assert await logs.read(stream.name) == b"abcdef"


async def test_reads_take_an_offset_and_a_limit(logs: Logs) -> None:
    stream = await logs.create()
    await logs.write(message(stream, b"0123456789", 0))
    assert await logs.read(stream.name, 2, 3) == b"234"
    waiting = asyncio.ensure_future(logs.read(stream.name, 12, 2))
    await logs.write(message(stream, b"abcdef", 10))
    assert await waiting == b"cd"
    await logs.write(message(stream, b"", 16, finish=True))
    assert await logs.read(stream.name, 16) == b""
    assert await refused(logs.read(stream.name, 17)) is grpc.StatusCode.OUT_OF_RANGE
    assert await refused(logs.read(stream.name, -1)) is grpc.StatusCode.OUT_OF_RANGE
    assert await refused(logs.read(stream.name, 0, -1)) is INVALID


async def test_many_readers_follow_one_large_stream(logs: Logs) -> None:
    stream = await logs.create()
    data = bytes(range(251)) * 30_000
    readers = [asyncio.ensure_future(logs.read(stream.name, n)) for n in range(5)]
    parts = [data[start : start + 2_500_000] for start in range(0, len(data), 2_500_000)]
    messages = [
        message(stream, part, n * 2_500_000, finish=part is parts[-1])
        for n, part in enumerate(parts)
    ]
    assert await logs.write(*messages) == len(data)
    for offset, reader in enumerate(readers):
        assert await reader == data[offset:]


async def test_a_stream_and_their_number_are_bounded(start: Start) -> None:
    logs = await start(max_streams=2, max_bytes=10)
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    first, second = await logs.create(), await logs.create()
    assert await refused(logs.write(message(first, b"x" * 11, 0))) is exhausted
    assert await logs.write(message(first, b"x" * 10, 0)) == 10
    assert await refused(logs.create()) is exhausted
    await logs.write(message(second, b"done", 0, finish=True))
    third = await logs.create()
    assert await refused(logs.read(second.name)) is NOT_FOUND
    assert await logs.status(third.write_resource_name) == (0, False)


async def test_streams_are_removed_after_their_time(start: Start, tmp_path: Path) -> None:
    logs = await start(keep_seconds=0.4)
    stream = await logs.create()
    await logs.write(message(stream, b"abc", 0))
    waiting = logs.follow(stream.name, 3)
    assert await refused(waiting.read()) is NOT_FOUND
    assert await refused(logs.read(stream.name)) is NOT_FOUND
    assert not list((tmp_path / "logs").iterdir())


async def test_what_an_earlier_server_left_is_removed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "left").write_bytes(b"over")
    await start()
    assert not list((tmp_path / "logs").iterdir())


async def test_blobs_are_still_found_beside_them(logs: Logs) -> None:
    data = b"a blob"
    digest = Digest.of(data, DigestFunction.SHA256)
    name = f"logstreams/uploads/{uuid.uuid4()}/blobs/{digest.hash}/{digest.size}/logstreams/x"
    written = await logs.write(bs_pb.WriteRequest(resource_name=name, data=data, finish_write=True))
    assert written == len(data)
    assert await logs.read(f"logstreams/blobs/{digest.hash}/{digest.size}") == data
