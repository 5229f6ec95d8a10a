"""The operations of a server (google.longrunning), and what REAPI puts into them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import status_pb2

from remote_apis.client.service import ServiceClient
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_PAGE = 1000


class OperationsClient(ServiceClient):
    """Operations of one instance, or of all that the server shows when that is ""."""

    _stub_class = operations_pb2_grpc.OperationsStub

    async def list(
        self, *, done: bool | None = None
    ) -> AsyncGenerator[operations_pb2.Operation, None]:
        """The operations in the server's order; `done`, where given, keeps those in that state.

        The server is asked for those alone, and for all when it has no such filter.
        """
        filter_ = "" if done is None else f"done={str(done).lower()}"
        token = ""
        while True:
            request = operations_pb2.ListOperationsRequest(
                name=self._instance, filter=filter_, page_size=_PAGE, page_token=token
            )
            try:
                response: operations_pb2.ListOperationsResponse = await self._call(
                    "listing operations", self._stub.ListOperations, request
                )
            except InvalidRequest:
                if not filter_:
                    raise
                filter_ = ""
                continue
            for operation in response.operations:
                if done is None or operation.done == done:
                    yield operation
            token = response.next_page_token
            if not token:
                return

    async def get(self, name: str) -> operations_pb2.Operation:
        """One operation as it is now. Raises NotFound."""
        request = operations_pb2.GetOperationRequest(name=name)
        operation: operations_pb2.Operation = await self._call(
            f"showing {name}", self._stub.GetOperation, request
        )
        return operation

    async def cancel(self, name: str) -> None:
        """Have the server end an operation, unless it is done. Raises NotFound."""
        request = operations_pb2.CancelOperationRequest(name=name)
        await self._call(f"cancelling {name}", self._stub.CancelOperation, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """An operation of Execute, unpacked; what the server left out is empty."""

    name: str
    done: bool
    metadata: re_pb.ExecuteOperationMetadata
    about: re_pb.RequestMetadata
    """On whose behalf it runs, where the server says so."""
    response: re_pb.ExecuteResponse | None
    error: status_pb2.Status
    """Why there is no response, or the status in the response."""

    @property
    def execution(self) -> re_pb.ExecutedActionMetadata:
        """Worker and times, as far as they are known."""
        if self.response is not None and self.response.result.HasField("execution_metadata"):
            return self.response.result.execution_metadata
        return self.metadata.partial_execution_metadata


def unpack_operation(operation: operations_pb2.Operation) -> OperationView:
    """What REAPI 2.12 says that an operation of Execute holds."""
    metadata, about = re_pb.ExecuteOperationMetadata(), re_pb.RequestMetadata()
    operation.metadata.Unpack(metadata)
    for detail in metadata.partial_execution_metadata.auxiliary_metadata:
        if detail.Unpack(about):
            break
    response = re_pb.ExecuteResponse()
    has_response = operation.HasField("response") and operation.response.Unpack(response)
    return OperationView(
        name=operation.name,
        done=operation.done,
        metadata=metadata,
        about=about,
        response=response if has_response else None,
        error=response.status if has_response else operation.error,
    )
