"""The CAS client keeps to what the server's capabilities say, whatever becomes of asking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from remote_apis.client.capabilities import AgreedLimits
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel
from remote_apis.client.settings import ClientLimits, request_metadata
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.blobstore.memory import MemoryBlobStore
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.cas import CasServicer
from server.rpc.handlers import StatusHandlers
from server.rpc.terms import Terms
from tests.remote_apis.test_client_cas import blob

_Context = grpc.aio.ServicerContext[Any, Any]
BATCH = 10_000


class Capabilities(re_grpc.CapabilitiesServicer):
    """Says BATCH, or fails with the codes in the list, one a call."""

    def __init__(self, *failures: grpc.StatusCode) -> None:
        self.failures = list(failures)
        self.requests: list[str] = []

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: _Context
    ) -> re_pb.ServerCapabilities:
        self.requests.append(request.instance_name)
        if self.failures:
            await context.abort(self.failures.pop(0), "scripted")
        cache = re_pb.CacheCapabilities(max_batch_total_size_bytes=BATCH)
        return re_pb.ServerCapabilities(cache_capabilities=cache)


@asynccontextmanager
async def channel_to(capabilities: Capabilities) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a real CAS that takes small batches alone."""
    blobs, terms = MemoryBlobStore(), Terms(max_batch_bytes=BATCH)
    stream = ByteStreamServicer(store=blobs, terms=terms)
    methods = StatusHandlers()
    re_grpc.add_CapabilitiesServicer_to_server(capabilities, methods)
    re_grpc.add_ContentAddressableStorageServicer_to_server(
        CasServicer(store=blobs, terms=terms), methods
    )
    bs_grpc.add_ByteStreamServicer_to_server(stream, methods)
    server = methods.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"grpc://127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)
    await stream.close()


@pytest.mark.row(20)
async def test_batches_are_as_small_as_the_server_asks() -> None:
    capabilities = Capabilities()
    sources = [blob(size) for size in range(2900, 3000)] + [blob(BATCH), blob(BATCH + 1)]
    async with channel_to(capabilities) as channel:
        cas = CasClient(channel, instance="team")
        await cas.upload([])
        assert capabilities.requests == []  # nothing to ask for
        await cas.upload_missing(sources)
        found = await cas.read_many(source.digest for source in sources)
        assert found == {source.digest: source.content for source in sources}
        metadata = request_metadata(re_pb.RequestMetadata(tool_invocation_id="x"))
        await cas.with_metadata(metadata).upload(sources)
        assert capabilities.requests == ["team"]


async def test_without_asking_this_server_refuses() -> None:
    """So that the test above tests something."""
    async with channel_to(Capabilities(grpc.StatusCode.UNIMPLEMENTED)) as channel:
        with pytest.raises(InvalidRequest):
            await CasClient(channel).upload(blob(size) for size in range(2900, 3000))


async def test_a_server_that_is_out_of_reach_is_asked_again() -> None:
    capabilities = Capabilities(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    own = ClientLimits()
    async with channel_to(capabilities) as channel:
        limits = AgreedLimits(channel, "", own)
        assert [await limits.get(), await limits.get()] == [own, own]
        assert (await limits.get()).batch_bytes == BATCH
        assert (await limits.get()).batch_bytes == BATCH
    assert len(capabilities.requests) == 3


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
    ],
)
async def test_a_server_that_does_not_say_is_asked_once(code: grpc.StatusCode) -> None:
    capabilities, own = Capabilities(code), ClientLimits()
    async with channel_to(capabilities) as channel:
        limits = AgreedLimits(channel, "", own)
        assert [await limits.get(), await limits.get()] == [own, own]
    assert len(capabilities.requests) == 1
