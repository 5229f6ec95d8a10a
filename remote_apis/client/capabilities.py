"""What a server offers."""

from __future__ import annotations

import asyncio
import os
from typing import NamedTuple

import grpc
import grpc.aio

from remote_apis.blob_files import DIRECTORY_HEADER
from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.settings import ClientLimits, Metadata, limits_of_server
from remote_apis.errors import DistbuildError, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.this_machine import MACHINE_HEADER, machine_id


class Offer(NamedTuple):
    """What a server offers. `blob_directory`: see `remote_apis.blob_files`; `machine`: on which it
    is, see `remote_apis.this_machine`. Most say neither."""

    capabilities: re_pb.ServerCapabilities
    blob_directory: str | None
    machine: bytes | None


async def get_offer(
    channel: grpc.aio.Channel,
    *,
    instance: str = "",
    timeout: float = 10.0,
    metadata: Metadata = (),
) -> Offer:
    """What the server offers for the instance. Raises Unavailable when it does not answer."""
    request = re_pb.GetCapabilitiesRequest(instance_name=instance)
    with rpc_errors("asking the server for its capabilities"):
        call = re_grpc.CapabilitiesStub(channel).GetCapabilities(
            request, timeout=timeout, metadata=metadata
        )
        capabilities = await call
        headers = dict(await call.initial_metadata())
    directory = headers.get(DIRECTORY_HEADER)
    machine = headers.get(MACHINE_HEADER)
    return Offer(
        capabilities,
        os.fsdecode(directory) if directory else None,
        machine if isinstance(machine, bytes) else None,
    )


async def get_capabilities(
    channel: grpc.aio.Channel,
    *,
    instance: str = "",
    timeout: float = 10.0,
    metadata: Metadata = (),
) -> re_pb.ServerCapabilities:
    """The capabilities alone of `get_offer`."""
    offer = await get_offer(channel, instance=instance, timeout=timeout, metadata=metadata)
    return offer.capabilities


class AgreedLimits:
    """A client's limits and what the server's make of them; it is asked on first use."""

    def __init__(self, channel: grpc.aio.Channel, instance: str, own: ClientLimits) -> None:
        self._channel = channel
        self._instance = instance
        self._own = own
        self._agreed: ClientLimits | None = None
        self._asking = asyncio.Lock()

    async def get(self, metadata: Metadata = ()) -> ClientLimits:
        """The limits. The client's own while the server is out of reach, or if it does not say."""
        if self._agreed is None:
            async with self._asking:  # of many calls that begin at once, one asks
                return self._agreed or await self._ask(metadata)
        return self._agreed

    async def _ask(self, metadata: Metadata) -> ClientLimits:
        try:
            offer = await get_offer(self._channel, instance=self._instance, metadata=metadata)
        except Unavailable:
            return self._own
        except DistbuildError:  # it has no Capabilities for us
            self._agreed = self._own
        else:
            is_far = offer.machine != machine_id() if offer.machine else self._own.is_far
            cache = offer.capabilities.cache_capabilities
            self._agreed = limits_of_server(cache, self._own, is_far=is_far)
        return self._agreed
