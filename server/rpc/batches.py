"""BatchUpdateBlobs and BatchReadBlobs: each blob succeeds or fails on its own."""

from __future__ import annotations

import asyncio

from google.rpc import status_pb2

from remote_apis import compression
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all, write_all
from server.rpc.status import status_of
from server.rpc.terms import Terms

_AT_ONCE = 256
"""Blobs of one request under way together: their commits share syncs."""


async def update_blobs(
    request: re_pb.BatchUpdateBlobsRequest, store: BlobStore, terms: Terms
) -> re_pb.BatchUpdateBlobsResponse:
    """Store what can be stored. Raises InvalidRequest when the batch is over the limit."""
    function = terms.function_of_batch(
        request.digest_function, [blob.digest.hash for blob in request.requests]
    )
    _check_total(terms, sum(_claimed_size(blob) for blob in request.requests))
    response = re_pb.BatchUpdateBlobsResponse()
    for start in range(0, len(request.requests), _AT_ONCE):
        blobs = request.requests[start : start + _AT_ONCE]
        statuses = await asyncio.gather(
            *(_update_one(blob, function, store, terms) for blob in blobs)
        )
        for blob, status in zip(blobs, statuses, strict=True):
            response.responses.add(digest=blob.digest, status=status)
    return response


async def read_blobs(
    request: re_pb.BatchReadBlobsRequest, store: BlobStore, terms: Terms
) -> re_pb.BatchReadBlobsResponse:
    """Read what can be read. Raises InvalidRequest when the batch is over the limit."""
    function = terms.function_of_batch(
        request.digest_function, [message.hash for message in request.digests]
    )
    _check_total(terms, sum(max(0, message.size_bytes) for message in request.digests))
    compressor = _chosen_compressor(request, terms)
    response = re_pb.BatchReadBlobsResponse()
    for message in request.digests:
        try:
            digest = Digest.from_message(message, function)
            data = await read_all(store, digest)
        except Exception as error:  # noqa: BLE001 - it becomes this blob's status
            response.responses.add(digest=message, status=status_of(error))
            continue
        data, used = compression.compress_if_smaller(data, compressor)
        response.responses.add(
            digest=message, data=data, compressor=used.name, status=status_pb2.Status()
        )
    return response


def _claimed_size(blob: re_pb.BatchUpdateBlobsRequest.Request) -> int:
    """The bytes of the blob itself, which for compressed data only its digest tells."""
    if blob.compressor == Compressor.IDENTITY.value:
        return len(blob.data)
    return max(0, blob.digest.size_bytes)


def _check_total(terms: Terms, total: int) -> None:
    if total > terms.max_batch_bytes:
        raise InvalidRequest(
            f"the batch holds {total} bytes of blobs, at most {terms.max_batch_bytes} are accepted"
        )


async def _update_one(
    blob: re_pb.BatchUpdateBlobsRequest.Request,
    function: DigestFunction,
    store: BlobStore,
    terms: Terms,
) -> status_pb2.Status:
    try:
        digest = Digest.from_message(blob.digest, function)
        terms.check_upload(digest)
        compressor = compression.BY_NUMBER.get(blob.compressor)
        if compressor is None:
            raise InvalidRequest(f"compressor {blob.compressor} is not supported")
        data = compression.decompress(blob.data, terms.check_compressor(compressor), digest.size)
        if digest.size == 0 and data:
            raise InvalidRequest(f"{len(data)} bytes of data came with the empty blob's digest")
        await write_all(store, digest, data)
    except Exception as error:  # noqa: BLE001 - it becomes this blob's status
        return status_of(error)
    return status_pb2.Status()


def _chosen_compressor(request: re_pb.BatchReadBlobsRequest, terms: Terms) -> Compressor:
    accepted = set(request.acceptable_compressors)
    for compressor in terms.compressors:
        if compressor.value in accepted:
            return compressor
    return Compressor.IDENTITY
