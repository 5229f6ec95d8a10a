"""Blobs travel compressed between machines, where the server can, and as they are on one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from remote_apis.client import capabilities as client_capabilities
from remote_apis.client.blobs import BlobSource, DamagedBlob
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel, parse_address
from remote_apis.client.settings import ClientLimits, RetryPolicy
from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from remote_apis.this_machine import machine_id
from server.blobstore.memory import MemoryBlobStore
from server.rpc.byte_stream import ByteStreamServicer
from server.rpc.capabilities import CapabilitiesServicer, Offer
from server.rpc.cas import CasServicer
from server.rpc.handlers import StatusHandlers
from server.rpc.terms import Terms
from tests.remote_apis.test_client_cas import blob

MIB = 1024 * 1024
SMALL, LARGE = blob(50_000), blob(3 * MIB)
_Context = grpc.aio.ServicerContext[Any, Any]


class Streams(ByteStreamServicer):
    """The real one, which notes the names and breaks reads off when told."""

    def __init__(self, store: MemoryBlobStore, terms: Terms) -> None:
        super().__init__(store=store, terms=terms)
        self.names: list[str] = []
        self.offsets: list[int] = []
        self.breaks = 0
        self.damages = False

    async def Read(
        self, request: bs_pb.ReadRequest, context: _Context
    ) -> AsyncIterator[bs_pb.ReadResponse]:
        self.names.append(request.resource_name)
        self.offsets.append(request.read_offset)
        async for response in super().Read(request, context):
            if self.damages:
                response.data = b"!" + response.data[1:]
            yield response
            if self.breaks:
                self.breaks -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async def Write(
        self, request_iterator: AsyncIterator[bs_pb.WriteRequest], context: _Context
    ) -> bs_pb.WriteResponse:
        async def noted() -> AsyncIterator[bs_pb.WriteRequest]:
            async for request in request_iterator:
                self.names += [request.resource_name] if request.resource_name else []
                yield request

        return await super().Write(noted(), context)


class Batches(CasServicer):
    """The real one, which notes how blobs came and went."""

    def __init__(self, store: MemoryBlobStore, terms: Terms) -> None:
        super().__init__(store=store, terms=terms)
        self.compressors: list[int] = []

    async def BatchUpdateBlobs(
        self, request: re_pb.BatchUpdateBlobsRequest, context: _Context
    ) -> re_pb.BatchUpdateBlobsResponse:
        self.compressors += [each.compressor for each in request.requests]
        return await super().BatchUpdateBlobs(request, context)

    async def BatchReadBlobs(
        self, request: re_pb.BatchReadBlobsRequest, context: _Context
    ) -> re_pb.BatchReadBlobsResponse:
        response = await super().BatchReadBlobs(request, context)
        self.compressors += [each.compressor for each in response.responses]
        return response


class Silent(CapabilitiesServicer):
    """Says what it has, and not on which machine it is."""

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: _Context
    ) -> re_pb.ServerCapabilities:
        return re_pb.ServerCapabilities(cache_capabilities=self._cache(Offer()))


@asynccontextmanager
async def served(
    limits: ClientLimits | None = None,
    terms: Terms | None = None,
    kind: type[CapabilitiesServicer] = CapabilitiesServicer,
) -> AsyncIterator[tuple[CasClient, Streams, Batches]]:
    """A client, and what it talks to."""
    store, terms = MemoryBlobStore(), terms or Terms()
    streams, batches = Streams(store, terms), Batches(store, terms)
    methods = StatusHandlers()
    re_grpc.add_CapabilitiesServicer_to_server(
        kind(terms=terms, offer_of=lambda _: Offer()), methods
    )
    re_grpc.add_ContentAddressableStorageServicer_to_server(batches, methods)
    bs_grpc.add_ByteStreamServicer_to_server(streams, methods)
    server = methods.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"grpc://127.0.0.1:{port}") as channel:
        yield CasClient(channel, limits=limits), streams, batches
    await server.stop(0)
    await streams.close()


async def there_and_back(cas: CasClient) -> None:
    await cas.upload([SMALL, LARGE])
    for source in (SMALL, LARGE):
        assert await cas.read(source.digest) == source.content
    assert (await cas.read_many([SMALL.digest]))[SMALL.digest] == SMALL.content


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is on another machine than the server."""
    monkeypatch.setattr(client_capabilities, "machine_id", lambda: b"another machine")


@pytest.mark.usefixtures("elsewhere")
async def test_between_machines_blobs_travel_compressed() -> None:
    async with served() as (cas, streams, batches):
        await there_and_back(cas)
        assert len(streams.names) == 3
        assert all("compressed-blobs/zstd/" in name for name in streams.names)
        assert batches.compressors == [Compressor.ZSTD.value] * 2


@pytest.mark.parametrize("limits", [ClientLimits(), ClientLimits(is_far=True)])
async def test_on_one_machine_they_do_not(limits: ClientLimits) -> None:
    """Whatever the address looks like: a container's network is the same machine."""
    async with served(limits) as (cas, streams, batches):
        await there_and_back(cas)
        assert not any("compressed" in name for name in streams.names)
        assert batches.compressors == [0, 0]


@pytest.mark.parametrize("is_far", [False, True])
async def test_of_a_server_that_does_not_say_the_address_tells(is_far: bool) -> None:
    async with served(ClientLimits(is_far=is_far), kind=Silent) as (cas, streams, _):
        await there_and_back(cas)
        assert {"compressed-blobs" in name for name in streams.names} == {is_far}


@pytest.mark.usefixtures("elsewhere")
async def test_a_server_without_zstd_gets_blobs_as_they_are() -> None:
    async with served(terms=Terms(compressors=(Compressor.DEFLATE,))) as (cas, streams, batches):
        await there_and_back(cas)
        assert not any("compressed" in name for name in streams.names)
        assert batches.compressors == [0, 0]


@pytest.mark.usefixtures("elsewhere")
async def test_what_does_not_get_smaller_goes_as_it_is() -> None:
    noise = os.urandom(2000)
    source = BlobSource(Digest.of(noise, DigestFunction.SHA256), noise)
    async with served() as (cas, _, batches):
        await cas.upload([source])
        assert await cas.read_many([source.digest]) == {source.digest: noise}
        assert batches.compressors == [0, 0]


@pytest.mark.usefixtures("elsewhere")
async def test_a_compressed_read_goes_on_where_it_broke_off() -> None:
    noise = os.urandom(3 * MIB)
    source = BlobSource(Digest.of(noise, DigestFunction.SHA256), noise)
    limits = ClientLimits(retry=RetryPolicy(attempts=4, first_delay=0.001, max_delay=0.01))
    async with served(limits) as (cas, streams, _):
        await cas.upload([source])
        streams.breaks = 2
        assert await cas.read(source.digest) == noise
        assert len(streams.offsets) == 3
        assert streams.offsets == sorted(set(streams.offsets))


@pytest.mark.usefixtures("elsewhere")
async def test_a_damaged_stream_is_as_good_as_no_blob(tmp_path: Path) -> None:
    async with served() as (cas, streams, _):
        await cas.upload([LARGE])
        streams.damages = True
        with pytest.raises(DamagedBlob):
            await cas.download(LARGE.digest, tmp_path / "file")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("grpc://127.0.0.1:1", True),
        ("grpcs://localhost:1", True),
        ("grpc://[::1]:1", True),
        ("unix:/a/socket", True),
        ("grpc://127.example:1", False),
        ("grpc://localhost.example:1", False),
        ("grpcs://[fe80::1]:1", False),
        ("grpc://10.127.0.1:1", False),
    ],
)
def test_local_addresses(url: str, is_local: bool) -> None:
    assert parse_address(url).is_local is is_local


async def test_a_server_says_on_which_machine_it_is() -> None:
    async with served() as (cas, _, _):
        offer = await client_capabilities.get_offer(cas._agreed._channel)
        assert offer.machine == machine_id()
        assert len(machine_id()) == 16
