"""What a server offers."""

from __future__ import annotations

import grpc
import grpc.aio

from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.settings import Metadata
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc


async def get_capabilities(
    channel: grpc.aio.Channel,
    *,
    instance: str = "",
    timeout: float = 10.0,
    metadata: Metadata = (),
) -> re_pb.ServerCapabilities:
    """What the server offers for the instance. Raises Unavailable when it does not answer."""
    with rpc_errors("asking the server for its capabilities"):
        capabilities: re_pb.ServerCapabilities = await re_grpc.CapabilitiesStub(
            channel
        ).GetCapabilities(
            re_pb.GetCapabilitiesRequest(instance_name=instance),
            timeout=timeout,
            metadata=metadata,
        )
        return capabilities
