"""The CAS as a client sees it: find, upload and read many blobs with few calls."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

from remote_apis.client.blobs import BlobSource, DamagedBlob, verify
from remote_apis.client.bytestream import ByteStreamClient
from remote_apis.client.capabilities import AgreedLimits
from remote_apis.client.packing import batches, chunked, run_all
from remote_apis.client.retry import retrying
from remote_apis.client.rpc_errors import error_of_status
from remote_apis.client.service import ServiceClient
from remote_apis.client.settings import ClientLimits, Metadata
from remote_apis.compression import BY_NUMBER, compress_if_smaller, decompress
from remote_apis.digest import Digest
from remote_apis.errors import (
    BlobNotFound,
    DistbuildError,
    InvalidRequest,
    MissingBlobs,
    Unavailable,
)
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc


class CasClient(ServiceClient):
    """Blobs of one instance.

    At most `limits.concurrent_calls` calls run at a time, those of `with_metadata` copies included.
    Batches are as small as the server's capabilities ask, if those are below `limits`.
    """

    _stub_class = re_grpc.ContentAddressableStorageStub

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        instance: str = "",
        limits: ClientLimits | None = None,
        metadata: Metadata = (),
    ) -> None:
        super().__init__(channel, instance=instance, limits=limits, metadata=metadata)
        self._stream = ByteStreamClient(
            channel, instance=instance, limits=self._limits, metadata=metadata
        )
        self._slots = asyncio.Semaphore(self._limits.concurrent_calls)
        self._agreed = AgreedLimits(channel, instance, self._limits)

    def with_metadata(self, metadata: Metadata) -> Self:
        """The same client with other headers (see `settings.request_metadata`)."""
        client = super().with_metadata(metadata)
        client._stream = self._stream.with_metadata(metadata)
        return client

    async def find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that the server lacks; it keeps the others for a while. The empty blob is there."""
        missing: set[Digest] = set()

        async def ask(chunk: list[Digest]) -> None:
            function = chunk[0].function
            request = re_pb.FindMissingBlobsRequest(
                instance_name=self._instance,
                blob_digests=[digest.to_message() for digest in chunk],
                digest_function=function.name,
            )
            response: re_pb.FindMissingBlobsResponse = await self._call(
                "asking for missing blobs", self._stub.FindMissingBlobs, request
            )
            for message in response.missing_blob_digests:
                missing.add(Digest.from_message(message, function))

        wanted = {digest for digest in digests if digest.size}
        await run_all(ask(chunk) for chunk in chunked(wanted, self._limits.find_missing_digests))
        return missing

    async def upload(self, sources: Iterable[BlobSource]) -> None:
        """Store blobs, whether or not they are there: small ones in batches, others as streams.

        Raises InvalidRequest when the server finds other bytes than the digest says, OutOfSpace,
        OSError when a file cannot be read. After an error some may be stored and some not.
        """
        unique = {source.digest: source for source in sources if source.digest.size}
        batched, large = await self._by_size(unique)
        calls = [self._upload_one(unique[digest]) for digest in large]
        for batch in batched:
            calls.append(self._upload_batch([unique[digest] for digest in batch]))
        await run_all(calls)

    async def upload_missing(self, sources: Iterable[BlobSource]) -> set[Digest]:
        """Store the blobs that the server lacks. Returns the digests that it lacked."""
        unique = {source.digest: source for source in sources if source.digest.size}
        missing = await self.find_missing(unique)
        await self.upload(unique[digest] for digest in missing)
        return missing

    async def read(self, digest: Digest) -> bytes:
        """One whole blob, verified. Raises BlobNotFound, also when it comes damaged."""
        return b"".join([piece async for piece in self.stream(digest)])

    async def read_many(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """Whole blobs, verified, all in memory. Raises MissingBlobs with all that are absent."""
        wanted = set(digests)
        found = {digest: b"" for digest in wanted if not digest.size}
        batched, large = await self._by_size(digest for digest in wanted if digest.size)

        async def read_one(digest: Digest) -> None:
            try:
                found[digest] = await self.read(digest)
            except BlobNotFound:
                return

        async def read_batch(batch: list[Digest]) -> None:
            found.update(await self._read_batch(batch))

        calls = [read_one(digest) for digest in large]
        calls += [read_batch(batch) for batch in batched]
        await run_all(calls)
        missing = wanted - found.keys()
        if missing:
            raise MissingBlobs(sorted(missing, key=str), what="the reader")
        return found

    async def stream(self, digest: Digest, *, verifies: bool = True) -> AsyncGenerator[bytes, None]:
        """One blob in pieces, verified before the last of them (see `ByteStreamClient.read`)."""
        limits = await self._agreed.get(self._metadata)
        pieces = self._stream.read(digest, verifies=verifies, compressor=limits.compressor)
        async with self._slots, aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def download(self, digest: Digest, path: Path, *, mode: int = 0o644) -> None:
        """Put the blob at `path`, replacing what is there in one step; nothing partial shows.

        Raises BlobNotFound and OSError.
        """
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".download-")
        try:
            # Buffered: a raw write may take only a part of a piece.
            with os.fdopen(handle, "wb") as file:
                async with aclosing(self.stream(digest)) as pieces:
                    async for piece in pieces:
                        file.write(piece)
                os.fchmod(file.fileno(), mode)
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    async def _upload_one(self, source: BlobSource) -> None:
        limits = await self._agreed.get(self._metadata)
        try:
            async with self._slots:
                await self._stream.write(source, limits.compressor)
        except Unavailable:
            if not await self._is_there(source.digest):
                raise

    async def _is_there(self, digest: Digest) -> bool:
        """Whether an upload that failed was not needed: a server that has the blob already may end
        the stream before all is sent, and grpc.aio then hides its answer.
        """
        try:
            return not await self.find_missing([digest])
        except DistbuildError:
            return False

    async def _upload_batch(self, batch: list[BlobSource]) -> None:
        what = f"uploading {len(batch)} blobs"
        compressor = (await self._agreed.get(self._metadata)).update_compressor

        async def attempt() -> None:
            # Built here, and so in a slot: only so many batches are in memory.
            request = re_pb.BatchUpdateBlobsRequest(
                instance_name=self._instance, digest_function=batch[0].digest.function.name
            )
            for source in batch:
                data, used = compress_if_smaller(source.load(), compressor)
                request.requests.add(
                    digest=source.digest.to_message(), data=data, compressor=used.name
                )
            response = await self._attempt(what, self._stub.BatchUpdateBlobs, request)
            for answer in response.responses:
                if answer.status.code:
                    name = f"{answer.digest.hash}/{answer.digest.size_bytes}"
                    raise error_of_status(answer.status, f"uploading {name}")

        async with self._slots:
            await retrying(self._limits.retry, attempt)

    async def _read_batch(self, batch: list[Digest]) -> dict[Digest, bytes]:
        """Those of the batch that are there."""
        function = batch[0].function
        compressor = (await self._agreed.get(self._metadata)).compressor
        request = re_pb.BatchReadBlobsRequest(
            instance_name=self._instance,
            digests=[digest.to_message() for digest in batch],
            digest_function=function.name,
            acceptable_compressors=[compressor.name],
        )

        async def attempt() -> dict[Digest, bytes]:
            found: dict[Digest, bytes] = {}
            response: re_pb.BatchReadBlobsResponse = await self._attempt(
                f"reading {len(batch)} blobs", self._stub.BatchReadBlobs, request
            )
            for answer in response.responses:
                digest = Digest.from_message(answer.digest, function)
                try:
                    if answer.status.code:
                        raise error_of_status(answer.status, f"reading {digest}", blob=digest)
                    found[digest] = verify(digest, _plain(answer, digest))
                except BlobNotFound:
                    continue
            return found

        async with self._slots:
            return await retrying(self._limits.retry, attempt)

    async def _by_size(
        self, digests: Iterable[Digest]
    ) -> tuple[Iterable[list[Digest]], list[Digest]]:
        """Batches, and those for streams."""
        small: list[Digest] = []
        large: list[Digest] = []
        wanted = list(digests)
        limits = await self._agreed.get(self._metadata) if wanted else self._limits
        for digest in wanted:
            (small if digest.size <= limits.small_blob_bytes else large).append(digest)
        return batches(small, limits), large

    async def _call(self, what: str, method: Any, request: Any) -> Any:
        async with self._slots:
            return await super()._call(what, method, request)


def _plain(answer: re_pb.BatchReadBlobsResponse.Response, digest: Digest) -> bytes:
    """A blob as it is, however it came. Raises DamagedBlob."""
    compressor = BY_NUMBER.get(answer.compressor)
    if compressor is None:
        raise DamagedBlob(digest, f"in encoding {answer.compressor}, which nobody asked for")
    try:
        return decompress(answer.data, compressor, digest.size)
    except InvalidRequest as error:
        raise DamagedBlob(digest, str(error)) from error
