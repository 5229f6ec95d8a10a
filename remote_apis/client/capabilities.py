"""What a server offers."""

from __future__ import annotations

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


class Offer(NamedTuple):
    """What a server offers. `blob_directory`: see `remote_apis.blob_files`; None from most."""

    capabilities: re_pb.ServerCapabilities
    blob_directory: str | None


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
    return Offer(capabilities, os.fsdecode(directory) if directory else None)


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
    """A client's limits, made as narrow as the server's; the server is asked on first use."""

    def __init__(self, channel: grpc.aio.Channel, instance: str, own: ClientLimits) -> None:
        self._channel = channel
        self._instance = instance
        self._own = own
        self._agreed: ClientLimits | None = None

    async def get(self, metadata: Metadata = ()) -> ClientLimits:
        """The limits. The client's own while the server is out of reach, or if it does not say."""
        if self._agreed is not None:
            return self._agreed
        try:
            capabilities = await get_capabilities(
                self._channel, instance=self._instance, metadata=metadata
            )
        except Unavailable:
            return self._own
        except DistbuildError:  # it has no Capabilities for us
            self._agreed = self._own
        else:
            self._agreed = limits_of_server(capabilities.cache_capabilities, self._own)
        return self._agreed
