"""LogStreamService, which makes log streams, and how ByteStream writes and reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc.aio

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2 as ls_pb
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2_grpc as ls_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from server.logstream.names import is_log_name, parse_log_name
from server.logstream.streams import LogStreams
from server.rpc.write_messages import check_nothing_follows

_Context = grpc.aio.ServicerContext[Any, Any]


class LogStreamServicer(ls_grpc.LogStreamServiceServicer):
    """The same LogStreams must be behind a ByteStreamServicer, as LogByteStreams."""

    def __init__(self, *, streams: LogStreams) -> None:
        self._streams = streams

    async def CreateLogStream(
        self, request: ls_pb.CreateLogStreamRequest, context: _Context
    ) -> ls_pb.LogStream:
        name = self._streams.create(request.parent)
        return ls_pb.LogStream(name=str(replace(name, token=None)), write_resource_name=str(name))


class LogByteStreams:
    """All log streams as OtherStreams of ByteStreamServicer."""

    def __init__(self, *streams: LogStreams) -> None:
        self._all = streams

    def owns(self, name: str) -> bool:
        return is_log_name(name)

    async def read(self, name: str, offset: int, limit: int) -> AsyncIterator[bytes]:
        async with aclosing(self._with(name).readable(name).read(offset, limit)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def write(self, name: str, messages: AsyncIterator[bs_pb.WriteRequest]) -> int:
        """Commits each message as it comes.

        The messages may end without finish_write; others can go on from there.
        """
        streams = self._with(name)
        stream = streams.writable(name)
        async for message in messages:
            if message.resource_name and message.resource_name != name:
                raise InvalidRequest(
                    f"resource name changed to {message.resource_name[:300]!r} within the stream"
                )
            await stream.append(message.write_offset, message.data, finish=message.finish_write)
            streams.touch(stream)
            if message.finish_write:
                await check_nothing_follows(messages)
        return stream.size

    async def status(self, name: str) -> tuple[int, bool]:
        stream = self._with(name).writable(name)
        return stream.size, stream.is_finished

    def _with(self, name: str) -> LogStreams:
        """Those that have the stream, or the last, which then say that it is not there."""
        parsed = parse_log_name(name)
        return next((each for each in self._all if each.has(parsed)), self._all[-1])
