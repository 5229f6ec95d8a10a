"""Who makes a request and what for, as far as the client says (REAPI 2.12 RequestMetadata)."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"


def request_metadata(context: grpc.aio.ServicerContext[Any, Any]) -> re_pb.RequestMetadata:
    """The metadata of a call; empty when there is none or it is damaged, which is no error."""
    for key, value in context.invocation_metadata() or ():
        if key == HEADER and isinstance(value, bytes):
            try:
                return re_pb.RequestMetadata.FromString(value)
            except DecodeError:
                break
    return re_pb.RequestMetadata()
