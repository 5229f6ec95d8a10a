"""ByteStream (google.bytestream) for blobs, and for whatever other streams the server has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import grpc.aio

from remote_apis import compression
from remote_apis.compressed_streams import EXISTING_COMPRESSED, decoded, encoded
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.errors import (
    BlobNotFound,
    DistbuildError,
    InvalidRequest,
    NotFound,
    OffsetOutOfRange,
)
from remote_apis.resource_names import BlobName, UploadName, parse_read_name, parse_write_name
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.blobstore.interface import BlobStore, reading
from server.rpc.request_metadata import request_metadata
from server.rpc.terms import Terms
from server.rpc.uploads import NotNeeded, Upload, Uploads
from server.rpc.write_messages import Messages, Unfinished, chained, data_of

_Context = grpc.aio.ServicerContext[Any, Any]
_NAME_HEADER = "build.bazel.remote.execution.v2.resource-name"
_WANT_UNCOMPRESSED_SIZE = frozenset({"siso"})


class OtherStreams(Protocol):
    """Streams by names of another form, such as those of LogStream."""

    def owns(self, name: str) -> bool:
        """Whether the name is of this form."""
        ...

    def read(self, name: str, offset: int, limit: int) -> AsyncIterator[bytes]:
        """The stream's bytes in chunks; waits for what is still to come."""
        ...

    async def write(self, name: str, messages: AsyncIterator[bs_pb.WriteRequest]) -> int:
        """Take in all messages, the first one included; returns the committed size."""
        ...

    async def status(self, name: str) -> tuple[int, bool]:
        """Committed size, and whether the stream is complete."""
        ...


class ByteStreamServicer(bs_grpc.ByteStreamServicer):
    """Read, Write and QueryWriteStatus. Close it after the server has stopped."""

    def __init__(
        self,
        *,
        store: BlobStore,
        terms: Terms,
        others: Sequence[OtherStreams] = (),
        keep_seconds: float = 3600.0,
        max_kept: int = 128,
    ) -> None:
        """At most `max_kept` broken uploads can be resumed, each for `keep_seconds`."""
        self._store = store
        self._terms = terms
        self._others = others
        self._uploads = Uploads(store, keep_seconds=keep_seconds, max_kept=max_kept)

    async def close(self) -> None:
        """Drop uploads that nobody has resumed."""
        await self._uploads.close()

    async def Read(
        self, request: bs_pb.ReadRequest, context: _Context
    ) -> AsyncIterator[bs_pb.ReadResponse]:
        _check_header(context, request.resource_name)
        offset, limit = request.read_offset, request.read_limit
        if limit < 0:
            raise InvalidRequest(f"read_limit {limit} is negative")
        if offset < 0:
            raise OffsetOutOfRange(f"read_offset {offset} is negative")
        other = self._other(request.resource_name)
        if other is not None:
            async for chunk in other.read(request.resource_name, offset, limit):
                yield bs_pb.ReadResponse(data=chunk)
            return
        blob = self._checked(parse_read_name(request.resource_name))
        if offset > blob.digest.size:
            raise OffsetOutOfRange(f"read_offset {offset} lies beyond the end of {blob.digest}")
        if blob.compressor is not Compressor.IDENTITY and limit:
            raise InvalidRequest("read_limit must be 0 for a compressed blob")
        async with reading(self._store, blob.digest, offset, limit) as chunks:
            if blob.compressor is not Compressor.IDENTITY:
                encoder = compression.encoder(blob.compressor, blob.digest.size - offset)
                chunks = encoded(encoder, chunks)
            async for chunk in chunks:
                yield bs_pb.ReadResponse(data=chunk)

    async def Write(
        self, request_iterator: AsyncIterator[bs_pb.WriteRequest], context: _Context
    ) -> bs_pb.WriteResponse:
        first = await anext(request_iterator, None)
        if first is None:
            raise InvalidRequest("the stream ended before its first message")
        other = self._other(first.resource_name)
        if other is not None:
            _check_header(context, first.resource_name)
            size = await other.write(first.resource_name, chained(first, request_iterator))
            return bs_pb.WriteResponse(committed_size=size)
        messages = Messages(request_iterator)
        held = [first]
        del first
        try:
            return await self._write(held.pop(), messages, context)
        except DistbuildError:
            await messages.drain()
            raise
        finally:
            messages.close()

    async def QueryWriteStatus(
        self, request: bs_pb.QueryWriteStatusRequest, context: _Context
    ) -> bs_pb.QueryWriteStatusResponse:
        _check_header(context, request.resource_name)
        other = self._other(request.resource_name)
        if other is not None:
            size, complete = await other.status(request.resource_name)
            return bs_pb.QueryWriteStatusResponse(committed_size=size, complete=complete)
        name = parse_write_name(request.resource_name)
        digest = self._checked(name.blob).digest
        if not await self._store.find_missing([digest]):
            return bs_pb.QueryWriteStatusResponse(committed_size=digest.size, complete=True)
        committed = self._uploads.committed(name)
        if committed is None:
            raise NotFound(f"there is no upload {request.resource_name!r}")
        return bs_pb.QueryWriteStatusResponse(committed_size=committed)

    async def _write(
        self, first: bs_pb.WriteRequest, messages: Messages, context: _Context
    ) -> bs_pb.WriteResponse:
        _check_header(context, first.resource_name)
        name, offset = parse_write_name(first.resource_name), first.write_offset
        blob = self._checked(name.blob)
        self._terms.check_upload(blob.digest)
        is_compressed = blob.compressor is not Compressor.IDENTITY
        existing = EXISTING_COMPRESSED if is_compressed else blob.digest.size
        if not await self._store.find_missing([blob.digest]) and (
            offset or await _is_readable(self._store, blob.digest)
        ):
            await messages.drain()
            return bs_pb.WriteResponse(committed_size=existing)
        if first.finish_write and offset == 0 and not is_compressed:
            await messages.check_end()
            await self._store.write(blob.digest, _single(first.data))
            return bs_pb.WriteResponse(committed_size=blob.digest.size)
        upload = await self._uploads.begin(name, offset)
        data = data_of(first, lambda: _while_needed(upload, messages))
        del first
        try:
            received = await self._receive(name, upload, data, messages)
        except NotNeeded:
            await messages.drain()
            return bs_pb.WriteResponse(committed_size=existing)
        fresh = blob.digest.size
        if is_compressed and not _wants_uncompressed_size(context):
            fresh = offset + received
        return bs_pb.WriteResponse(committed_size=fresh)

    async def _receive(
        self, name: UploadName, upload: Upload, data: AsyncIterator[bytes], messages: Messages
    ) -> int:
        """Store the upload; how many bytes came over the wire. Raises NotNeeded."""
        keep = False
        try:
            received = await _feed(upload, name.blob.compressor, data)
            await messages.check_end()
            await upload.finish()
            return received
        except (Unfinished, asyncio.CancelledError):
            keep = True
            raise
        finally:
            self._uploads.end(name, upload, keep=keep)

    def _checked(self, blob: BlobName) -> BlobName:
        self._terms.check_instance(blob.instance)
        self._terms.check_digest(blob.digest)
        self._terms.check_compressor(blob.compressor)
        return blob

    def _other(self, name: str) -> OtherStreams | None:
        return next((streams for streams in self._others if streams.owns(name)), None)


async def _feed(upload: Upload, compressor: Compressor, data: AsyncIterator[bytes]) -> int:
    """Give everything to the upload; how many bytes that was before decompressing."""
    received = 0
    decoder = None
    if compressor is not Compressor.IDENTITY:
        decoder = compression.decoder(compressor)
    async for part in data:
        received += len(part)
        if decoder is None:
            await upload.add(part)
            continue
        async for piece in decoded(decoder, part):
            await upload.add(piece)
    if decoder is not None:
        decoder.finish()
    return received


async def _while_needed(upload: Upload, messages: Messages) -> bs_pb.WriteRequest | None:
    """The next message. Raises NotNeeded once the store has the blob, and what it raises."""
    if not await upload.race(messages.begin()):
        await upload.add(b"")
    return await messages.take()


async def _is_readable(store: BlobStore, digest: Digest) -> bool:
    """Whether what the store has is not damaged: who uploads it once more may want it healed."""
    try:
        async with reading(store, digest, 0, 1) as chunks:
            async for _ in chunks:
                break
    except BlobNotFound:
        return False
    return True


def _wants_uncompressed_size(context: _Context) -> bool:
    """Which committed_size a fresh compressed upload is answered with; see docs/adr/."""
    return request_metadata(context).tool_details.tool_name in _WANT_UNCOMPRESSED_SIZE


def _check_header(context: _Context, name: str) -> None:
    """The optional header repeats the resource name (REAPI 2.12)."""
    for key, value in context.invocation_metadata() or ():
        if key == _NAME_HEADER and value != name:
            raise InvalidRequest(f"header {key} says {value!r}, the request {name!r}")


async def _single(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
