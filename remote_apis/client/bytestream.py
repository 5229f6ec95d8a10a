"""Single blobs through ByteStream."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import BinaryIO

import grpc
import grpc.aio

from remote_apis import compression
from remote_apis.client.blobs import BlobSource, DamagedBlob, SizeCheck, Verifier
from remote_apis.client.retry import delays, retrying
from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.service import ServiceClient
from remote_apis.client.settings import CHUNK_SIZE
from remote_apis.compressed_streams import EXISTING_COMPRESSED, decoded, encoded
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest, Unavailable
from remote_apis.resource_names import BlobName
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc


class ByteStreamClient(ServiceClient):
    """Reads and writes blobs of one instance in pieces of 1 MiB (REAPI 2.12 CAS names)."""

    _stub_class = bs_grpc.ByteStreamStub

    async def write(self, source: BlobSource, compressor: Compressor = Compressor.IDENTITY) -> None:
        """Upload one blob. Raises OSError when its file cannot be read, and the RPC errors."""
        await retrying(self._limits.retry, lambda: self._write_once(source, compressor))

    async def read(
        self,
        digest: Digest,
        *,
        verifies: bool = True,
        compressor: Compressor = Compressor.IDENTITY,
    ) -> AsyncGenerator[bytes, None]:
        """The blob's bytes, verified: the last piece comes only if all before it was right.

        `verifies`: off for who hashes them once more, as a store does; then only the size is right.

        A stream that breaks off is taken up where it broke, as the retry policy allows. Raises
        BlobNotFound (DamagedBlob among them) and the RPC errors. Close it (`aclosing`) when it is
        not read to its end.
        """
        verifier = Verifier(digest) if verifies else SizeCheck(digest)
        held = b""
        waits = delays(self._limits.retry)
        failures = 0
        while verifier.received < digest.size:
            before = verifier.received
            try:
                pieces = self._read_once(digest, verifier.received, compressor)
                async with aclosing(pieces):
                    async for piece in pieces:
                        verifier.update(piece)
                        if held:
                            yield held
                        held = piece
            except Unavailable:
                failures = 0 if verifier.received > before else failures + 1
                if failures >= self._limits.retry.attempts:
                    raise
                await asyncio.sleep(next(waits))
                continue
            break
        verifier.finish()
        if held:
            yield held

    async def _read_once(
        self, digest: Digest, offset: int, compressor: Compressor
    ) -> AsyncGenerator[bytes, None]:
        """From an offset, which counts the blob's own bytes, on."""
        name = BlobName(instance=self._instance, digest=digest, compressor=compressor).to_read()
        call = self._read_call(name, offset, digest)
        if compressor is Compressor.IDENTITY:
            async with aclosing(call):
                async for piece in call:
                    yield piece
            return
        decoder = compression.decoder(compressor)
        try:
            async with aclosing(call):
                async for data in call:
                    async for piece in decoded(decoder, data):
                        yield piece
            decoder.finish()
        except InvalidRequest as error:
            raise DamagedBlob(digest, str(error)) from error

    async def _read_call(
        self, name: str, offset: int, digest: Digest
    ) -> AsyncGenerator[bytes, None]:
        with rpc_errors(f"reading {digest}", blob=digest):
            call = self._stub.Read(
                bs_pb.ReadRequest(resource_name=name, read_offset=offset),
                metadata=self._metadata,
                timeout=self._limits.transfer_timeout(digest.size - offset),
            )
            try:
                async for response in call:
                    if response.data:
                        yield response.data
            finally:
                call.cancel()

    async def _write_once(self, source: BlobSource, compressor: Compressor) -> None:
        digest = source.digest
        blob = BlobName(instance=self._instance, digest=digest, compressor=compressor)
        name = blob.to_write(str(uuid.uuid4()))
        with rpc_errors(f"uploading {digest}"), _opened(source) as file:
            call = self._stub.Write(
                metadata=self._metadata, timeout=self._limits.transfer_timeout(digest.size)
            )
            try:
                sent = await _send(call, name, _content(file, digest, compressor))
                response = await call
            finally:
                call.cancel()
        fits = {digest.size}
        if compressor is not Compressor.IDENTITY:
            fits |= {sent, EXISTING_COMPRESSED}  # servers differ
        if response.committed_size not in fits:
            raise InvalidRequest(
                f"uploading {digest}: the server committed {response.committed_size} bytes"
            )


async def _content(file: BinaryIO, digest: Digest, compressor: Compressor) -> AsyncIterator[bytes]:
    """What to send of a file. Raises InvalidRequest when it turns out to be of another size."""
    chunks = _chunks(file, digest.size)
    if compressor is Compressor.IDENTITY:
        async for chunk in chunks:
            yield chunk
        return
    async for piece in encoded(compression.encoder(compressor, digest.size), chunks):
        yield piece


async def _chunks(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    offset = 0
    while offset < size and (chunk := file.read(CHUNK_SIZE)):
        offset += len(chunk)
        yield chunk


async def _send(
    call: grpc.aio.StreamUnaryCall[bs_pb.WriteRequest, bs_pb.WriteResponse],
    name: str,
    pieces: AsyncIterator[bytes],
) -> int:
    """Write the pieces to the call; how many bytes they were. Ends early when the server has the
    blob already.
    """
    offset = 0
    data: bytes | None = await anext(pieces, b"")
    while data is not None:
        following = await anext(pieces, None)
        request = bs_pb.WriteRequest(write_offset=offset, data=data, finish_write=following is None)
        if offset == 0:
            request.resource_name = name
        if call.done():
            return offset
        try:
            await call.write(request)
        except asyncio.InvalidStateError:
            return offset  # answered meanwhile; the answer tells how
        offset += len(data)
        data = following
    if not call.done():
        await call.done_writing()
    return offset


def _opened(source: BlobSource) -> BinaryIO:
    if isinstance(source.content, bytes):
        return io.BytesIO(source.content)
    return source.content.open("rb", buffering=0)
