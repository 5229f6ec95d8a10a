"""Serialised ExecuteResponses for executions that the scheduler itself ends."""

from __future__ import annotations

from google.rpc import status_pb2

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.scheduler.values import Failure


def failure_response(failure: Failure) -> bytes:
    """A response without a result (REAPI 2.12 ExecuteResponse.status)."""
    status = status_pb2.Status(code=failure.code, message=failure.message)
    return re_pb.ExecuteResponse(status=status).SerializeToString(deterministic=True)
