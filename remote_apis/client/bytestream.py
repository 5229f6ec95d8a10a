"""Single blobs through ByteStream."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncGenerator
from typing import BinaryIO

import grpc
import grpc.aio

from remote_apis.client.blobs import BlobSource, SizeCheck, Verifier
from remote_apis.client.retry import delays, retrying
from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.service import ServiceClient
from remote_apis.client.settings import CHUNK_SIZE
from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest, Unavailable
from remote_apis.resource_names import BlobName
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc


class ByteStreamClient(ServiceClient):
    """Reads and writes blobs of one instance in pieces of 1 MiB (REAPI 2.12 CAS names)."""

    _stub_class = bs_grpc.ByteStreamStub

    async def write(self, source: BlobSource) -> None:
        """Upload one blob. Raises OSError when its file cannot be read, and the RPC errors."""
        await retrying(self._limits.retry, lambda: self._write_once(source))

    async def read(self, digest: Digest, *, verifies: bool = True) -> AsyncGenerator[bytes, None]:
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
                async for piece in self._read_once(digest, verifier.received):
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

    async def _read_once(self, digest: Digest, offset: int) -> AsyncGenerator[bytes, None]:
        with rpc_errors(f"reading {digest}", blob=digest):
            call = self._stub.Read(
                bs_pb.ReadRequest(
                    resource_name=BlobName(instance=self._instance, digest=digest).to_read(),
                    read_offset=offset,
                ),
                metadata=self._metadata,
                timeout=self._limits.transfer_timeout(digest.size - offset),
            )
            try:
                async for response in call:
                    if response.data:
                        yield response.data
            finally:
                call.cancel()

    async def _write_once(self, source: BlobSource) -> None:
        digest = source.digest
        name = BlobName(instance=self._instance, digest=digest).to_write(str(uuid.uuid4()))
        with rpc_errors(f"uploading {digest}"), _opened(source) as file:
            call = self._stub.Write(
                metadata=self._metadata, timeout=self._limits.transfer_timeout(digest.size)
            )
            try:
                await _send(call, name, file, digest.size)
                response = await call
            finally:
                call.cancel()
        if response.committed_size != digest.size:
            raise InvalidRequest(
                f"uploading {digest}: the server committed {response.committed_size} bytes"
            )


async def _send(
    call: grpc.aio.StreamUnaryCall[bs_pb.WriteRequest, bs_pb.WriteResponse],
    name: str,
    file: BinaryIO,
    size: int,
) -> None:
    """Write the file to the call; ends early when the server has the blob already."""
    offset = 0
    while True:
        data = file.read(CHUNK_SIZE)
        is_last = offset + len(data) >= size or not data
        request = bs_pb.WriteRequest(write_offset=offset, data=data, finish_write=is_last)
        if offset == 0:
            request.resource_name = name
        if call.done():
            return
        try:
            await call.write(request)
        except asyncio.InvalidStateError:
            return  # answered meanwhile; the answer tells how
        offset += len(data)
        if is_last:
            break
    if not call.done():
        await call.done_writing()


def _opened(source: BlobSource) -> BinaryIO:
    if isinstance(source.content, bytes):
        return io.BytesIO(source.content)
    return source.content.open("rb", buffering=0)
