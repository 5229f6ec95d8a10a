"""ContentAddressableStorage (REAPI 2.12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio

from remote_apis.chunking import Chunker
from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from server.blobstore.interface import BlobStore
from server.rpc.batches import read_blobs, update_blobs
from server.rpc.get_tree import tree_pages
from server.rpc.splitting import Splitter, splice
from server.rpc.terms import Terms

_Context = grpc.aio.ServicerContext[Any, Any]
_SLICE = 10_000
"""Digests looked up before others get a turn."""


class CasServicer(re_grpc.ContentAddressableStorageServicer):
    """Blobs of all instances are shared; only the instance's name is checked."""

    def __init__(self, *, store: BlobStore, terms: Terms, chunkers: Sequence[Chunker] = ()) -> None:
        """`chunkers`: what SplitBlob can use, the first of them where the client has no wish."""
        self._store = store
        self._terms = terms
        self._splitter = Splitter(store, chunkers)

    async def FindMissingBlobs(
        self, request: re_pb.FindMissingBlobsRequest, context: _Context
    ) -> re_pb.FindMissingBlobsResponse:
        self._terms.check_instance(request.instance_name)
        messages = request.blob_digests
        hashes = [messages[0].hash] if messages else []
        function = self._terms.function(request.digest_function, hashes)
        response = re_pb.FindMissingBlobsResponse()
        for start in range(0, len(messages), _SLICE):
            if start:
                await asyncio.sleep(0)
            part = messages[start : start + _SLICE]
            digests = [Digest.from_message(message, function) for message in part]
            missing = await self._store.find_missing(digests)
            for digest in digests if missing else ():
                if digest in missing:
                    missing.discard(digest)  # asked for twice, it is reported once
                    response.missing_blob_digests.add(hash=digest.hash, size_bytes=digest.size)
        return response

    async def BatchUpdateBlobs(
        self, request: re_pb.BatchUpdateBlobsRequest, context: _Context
    ) -> re_pb.BatchUpdateBlobsResponse:
        self._terms.check_instance(request.instance_name)
        return await update_blobs(request, self._store, self._terms)

    async def BatchReadBlobs(
        self, request: re_pb.BatchReadBlobsRequest, context: _Context
    ) -> re_pb.BatchReadBlobsResponse:
        self._terms.check_instance(request.instance_name)
        return await read_blobs(request, self._store, self._terms)

    async def GetTree(
        self, request: re_pb.GetTreeRequest, context: _Context
    ) -> AsyncIterator[re_pb.GetTreeResponse]:
        self._terms.check_instance(request.instance_name)
        function = self._terms.function(request.digest_function, [request.root_digest.hash])
        root = Digest.from_message(request.root_digest, function)
        async for page in tree_pages(
            self._store, root, page_size=request.page_size, page_token=request.page_token
        ):
            yield page

    async def SplitBlob(
        self, request: re_pb.SplitBlobRequest, context: _Context
    ) -> re_pb.SplitBlobResponse:
        self._terms.check_instance(request.instance_name)
        function = self._terms.function(request.digest_function, [request.blob_digest.hash])
        digest = Digest.from_message(request.blob_digest, function)
        chunks, number = await self._splitter.split(digest, request.chunking_function)
        return re_pb.SplitBlobResponse(
            chunk_digests=[chunk.to_message() for chunk in chunks],
            chunking_function=re_pb.ChunkingFunction.Value.Name(number),
        )

    async def SpliceBlob(
        self, request: re_pb.SpliceBlobRequest, context: _Context
    ) -> re_pb.SpliceBlobResponse:
        self._terms.check_instance(request.instance_name)
        if not request.HasField("blob_digest"):
            raise InvalidRequest("blob_digest is not set")
        function = self._terms.function(request.digest_function, [request.blob_digest.hash])
        digest = Digest.from_message(request.blob_digest, function)
        self._terms.check_upload(digest)
        chunks = [Digest.from_message(chunk, function) for chunk in request.chunk_digests]
        await splice(self._store, digest, chunks)
        return re_pb.SpliceBlobResponse(blob_digest=digest.to_message())
