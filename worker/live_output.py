"""What an action prints, sent to log streams while it runs (REAPI 2.12 LogStream)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage

from remote_apis.client.settings import CHUNK_SIZE
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2 as ls_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc

_LOG = logging.getLogger(__name__)
_FIRST_SECONDS = 0.25
"""Most actions are over by then: what they printed goes in one message, or none."""
_INTERVAL_SECONDS = 0.2
_LAST_SECONDS = 2.0
_RETRY_SECONDS = 2.0


LiveOutput = Callable[
    [Sequence[AnyMessage], Path, Path],
    contextlib.AbstractAsyncContextManager[Callable[[], None]],
]
"""Sends two files to two log streams while the block runs; `live_output` makes one. The block
calls what it is given when the files are complete."""


def take_streams(
    details: Iterable[AnyMessage],
) -> tuple[tuple[AnyMessage, ...], tuple[AnyMessage, ...]]:
    """What goes back with a result, and the log streams that our scheduler sent along.

    The streams' names for writing are this worker's secret.
    """
    streams: list[AnyMessage] = []
    rest: list[AnyMessage] = []
    for detail in details:
        is_stream = detail.TypeName() == ls_pb.LogStream.DESCRIPTOR.full_name
        (streams if is_stream else rest).append(detail)
    return tuple(rest), tuple(streams)


def live_output(channel: grpc.aio.Channel) -> LiveOutput:
    """What sends output over the channel of the server that the streams belong to."""
    sender = _Sender(channel)

    def following(
        streams: Sequence[AnyMessage], stdout: Path, stderr: Path
    ) -> contextlib.AbstractAsyncContextManager[Callable[[], None]]:
        names = []
        for detail in streams:
            stream = ls_pb.LogStream()
            if detail.Unpack(stream) and stream.write_resource_name:
                names.append(stream.write_resource_name)
        # Stdout's comes first; anything but a pair is not from our scheduler.
        files = {names[0]: stdout, names[1]: stderr} if len(names) == 2 else {}
        return sender.following(files)

    return following


class _Sender:
    """Follows files as they grow. Whatever goes wrong, the action does not notice."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = bs_grpc.ByteStreamStub(channel)

    @asynccontextmanager
    async def following(self, files: Mapping[str, Path]) -> AsyncIterator[Callable[[], None]]:
        """Send the files by the names of their streams until the block ends, and then the rest.

        Files may appear later. What is not sent within two seconds of the end is dropped.
        """
        ended = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            for name, path in files.items():
                tasks.append(asyncio.create_task(self._follow(name, path, ended)))

        def end() -> None:
            ended.set()
            timer.cancel()
            # The server ends a stream that nobody wrote to.
            if not tasks and any(_has_bytes(path) for path in files.values()):
                begin()

        timer = asyncio.get_running_loop().call_later(_FIRST_SECONDS, begin)
        try:
            yield end
            end()
            if tasks:
                await asyncio.wait(tasks, timeout=_LAST_SECONDS)
        finally:
            timer.cancel()
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    _LOG.debug("live output ended early: %s", outcome)

    async def _follow(self, name: str, path: Path, ended: asyncio.Event) -> None:
        while not _has_bytes(path):
            if ended.is_set():
                return
            await _wait(ended, _INTERVAL_SECONDS)
        with path.open("rb", buffering=0) as file:
            while not await self._send(name, file, ended):
                await _wait(ended, _RETRY_SECONDS)

    async def _send(self, name: str, file: BinaryIO, ended: asyncio.Event) -> bool:
        """Send from where the stream has got to; False when it broke and can be taken up again."""
        offset = 0
        try:
            if file.tell():
                status = await self._stub.QueryWriteStatus(
                    bs_pb.QueryWriteStatusRequest(resource_name=name), timeout=_RETRY_SECONDS
                )
                offset = status.committed_size
            file.seek(offset)
            call = self._stub.Write()
            try:
                await _pump(call, name, file, ended, offset)
                await call
            finally:
                call.cancel()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            is_passing = (
                isinstance(error, grpc.aio.AioRpcError)
                and error.code() is grpc.StatusCode.UNAVAILABLE
            )
            return ended.is_set() or not is_passing
        return True


async def _pump(
    call: grpc.aio.StreamUnaryCall[bs_pb.WriteRequest, bs_pb.WriteResponse],
    name: str,
    file: BinaryIO,
    ended: asyncio.Event,
    offset: int,
) -> None:
    is_last = False
    while not is_last:
        is_over = ended.is_set()
        data = file.read(CHUNK_SIZE)
        is_last = is_over and not data
        if data or is_last:
            request = bs_pb.WriteRequest(
                resource_name=name, write_offset=offset, data=data, finish_write=is_last
            )
            await call.write(request)
            offset += len(data)
        else:
            await _wait(ended, _INTERVAL_SECONDS)
    await call.done_writing()


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
