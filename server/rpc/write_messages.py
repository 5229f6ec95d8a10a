"""The rules for the messages of one ByteStream.Write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb

_PATIENCE_SECONDS = 0.5
"""How long a client that has said finish_write may take to end the stream as well."""


class Unfinished(InvalidRequest):
    """The client ended the stream and did not say finish_write; it may resume."""


async def data_of(
    first: bs_pb.WriteRequest, requests: AsyncIterator[bs_pb.WriteRequest]
) -> AsyncIterator[bytes]:
    """The data of each message, until one says finish_write and nothing follows.

    Raises InvalidRequest for a wrong name, a wrong offset and anything after finish_write, and
    Unfinished when the stream ends without it (bytestream.proto WriteRequest).
    """
    offset = first.write_offset
    request: bs_pb.WriteRequest | None = first
    while request is not None:
        if request.resource_name and request.resource_name != first.resource_name:
            raise InvalidRequest(
                f"resource name changed to {request.resource_name[:300]!r} within the stream"
            )
        if request.write_offset != offset:
            raise InvalidRequest(f"write_offset is {request.write_offset}, expected {offset}")
        offset += len(request.data)
        yield request.data
        if request.finish_write:
            await check_nothing_follows(requests)
            return
        request = await anext(requests, None)
    raise Unfinished("the stream ended without finish_write; the upload may be resumed")


async def check_nothing_follows(requests: AsyncIterator[bs_pb.WriteRequest]) -> None:
    """Raises InvalidRequest when a message comes after the one that said finish_write."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            async for _ in requests:
                raise InvalidRequest("a message came after the one that said finish_write")
    except TimeoutError:
        return  # some clients wait for the answer before they end the stream
