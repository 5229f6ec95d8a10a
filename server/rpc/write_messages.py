"""The rules for the messages of one ByteStream.Write, and how they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb

_PATIENCE_SECONDS = 0.5
"""How long a client that has said finish_write may take to end the stream as well."""
_DRAIN_SECONDS = 0.1
_DRAIN_BYTES = 32 * 1024 * 1024

Request = bs_pb.WriteRequest
_AFTER_FINISH = "a message came after the one that said finish_write"


class Unfinished(InvalidRequest):
    """The client ended the stream and did not say finish_write; it may resume."""


class Messages:
    """The messages of a stream. Reading one is never cut off, so that more can be read after a
    wait that was in vain. No message stays referred to from here: each holds a copy of its data.
    """

    def __init__(self, requests: AsyncIterator[Request]) -> None:
        self._requests = requests
        self._reading: asyncio.Task[Request | None] | None = None

    def begin(self) -> asyncio.Task[Request | None]:
        """Start to read the next one; to wait for, and then to `take`."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._next())
        return self._reading

    async def take(self) -> Request | None:
        """The next message, or None at the end."""
        await asyncio.wait([self.begin()])
        reading, self._reading = self.begin(), None
        return reading.result()

    async def check_end(self) -> None:
        """Raises InvalidRequest when another message comes; gives up waiting after a while.

        Some clients wait for the answer before they end the stream.
        """
        reading = self.begin()
        await asyncio.wait([reading], timeout=_PATIENCE_SECONDS)
        if reading.done() and await self.take() is not None:
            raise InvalidRequest(_AFTER_FINISH)

    async def drain(self) -> None:
        """Take in what a client is just sending, before the call ends without it.

        Clients on grpc.aio that are in the middle of sending then report an error of their own
        making instead of our answer. A client that pauses has looked for the answer.
        """
        taken = 0
        while taken < _DRAIN_BYTES:
            reading = self.begin()
            await asyncio.wait([reading], timeout=_DRAIN_SECONDS)
            if not reading.done() or reading.exception() is not None:
                return
            request = await self.take()
            if request is None:
                return
            taken += len(request.data)

    def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _next(self) -> Request | None:
        return await anext(self._requests, None)


async def data_of(
    first: Request, take: Callable[[], Awaitable[Request | None]]
) -> AsyncIterator[bytes]:
    """The data of each message, `first` included, until one says finish_write.

    Raises InvalidRequest for a wrong name and a wrong offset, and Unfinished when the stream ends
    without finish_write (bytestream.proto WriteRequest).
    """
    name, offset = first.resource_name, first.write_offset
    request: Request | None = first
    del first
    while request is not None:
        if request.resource_name and request.resource_name != name:
            raise InvalidRequest(
                f"resource name changed to {request.resource_name[:300]!r} within the stream"
            )
        if request.write_offset != offset:
            raise InvalidRequest(f"write_offset is {request.write_offset}, expected {offset}")
        data, is_last = request.data, request.finish_write
        request = None
        offset += len(data)
        yield data
        if is_last:
            return
        request = await take()
    raise Unfinished("the stream ended without finish_write; the upload may be resumed")


async def check_nothing_follows(requests: AsyncIterator[Request]) -> None:
    """As `Messages.check_end`, for a stream that is not read any further."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            async for _ in requests:
                raise InvalidRequest(_AFTER_FINISH)
    except TimeoutError:
        return


async def chained(first: Request, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
    """A message that has been looked at, and the rest."""
    yield first
    async for request in requests:
        yield request
