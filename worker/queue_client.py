"""The scheduler's OperationQueue as the worker calls it."""

from __future__ import annotations

import grpc
import grpc.aio

from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc


class QueueClient:
    """`buildbarn.remoteworker.OperationQueue` over a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rw_grpc.OperationQueueStub(channel)

    async def synchronize(
        self, request: rw_pb.SynchronizeRequest, *, timeout: float
    ) -> rw_pb.SynchronizeResponse:
        """Tell the scheduler what is, hear what is to be. Raises `remote_apis.errors`."""
        with rpc_errors("asking the scheduler for work"):
            response: rw_pb.SynchronizeResponse = await self._stub.Synchronize(
                request, timeout=timeout
            )
            return response
