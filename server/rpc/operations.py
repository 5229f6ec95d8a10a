"""The Operations service (google.longrunning), for the operations of Execute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from typing import Any

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from remote_apis.errors import InvalidRequest
from server.logstream.live import LiveOutputs
from server.rpc.execution_messages import operation_message
from server.scheduler.driver import Scheduler
from server.scheduler.values import OperationSnapshot

_Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000
_LARGEST_MESSAGE = 2 * 1024 * 1024
_SMALL = 512
"""Bytes of an operation beside its response."""
_COLLECTION = "operations"


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """List, get, wait for, cancel and delete operations."""

    def __init__(self, *, scheduler: Scheduler, live: LiveOutputs | None = None) -> None:
        self._scheduler = scheduler
        self._live = live

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: _Context
    ) -> operations_pb2.ListOperationsResponse:
        """Operations in the order of their requests, a page at a time.

        `name` is an instance name, with or without `/operations` behind it; empty, `operations`
        and `/operations` list those of every instance. `filter` may be empty, `done=true` or
        `done=false`. Raises InvalidRequest.
        """
        wanted = _parse_filter(request.filter)
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        if size < 0:
            raise InvalidRequest(f"page size {request.page_size} is negative")
        found = self._scheduler.list_operations(
            instance=_instance_of(request.name),
            after=_parse_token(request.page_token),
            limit=size + 1,
            done=wanted,
        )
        page = list(_fitting(found[:size]))
        token = str(page[-1].sequence) if len(found) > len(page) else ""
        return operations_pb2.ListOperationsResponse(
            operations=[self._message(snapshot) for snapshot in page], next_page_token=token
        )

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: _Context
    ) -> operations_pb2.Operation:
        """The operation now. Raises NotFound."""
        return self._message(self._scheduler.get(request.name))

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: _Context
    ) -> operations_pb2.Operation:
        """The operation once it is done, or as it is when the timeout is over. Raises NotFound."""
        timeout: float | None = None
        if request.HasField("timeout"):
            timeout = max(0.0, request.timeout.seconds + request.timeout.nanos / 1e9)
        try:
            async with asyncio.timeout(timeout):
                return self._message(await self._wait(request.name))
        except TimeoutError:
            return self._message(self._scheduler.get(request.name))

    async def CancelOperation(
        self, request: operations_pb2.CancelOperationRequest, context: _Context
    ) -> Empty:
        """End the operation with CANCELLED, unless it is done. Raises NotFound."""
        self._scheduler.cancel(request.name)
        return Empty()

    async def DeleteOperation(
        self, request: operations_pb2.DeleteOperationRequest, context: _Context
    ) -> Empty:
        """Forget a finished operation. Raises NotFound, FailedPrecondition while it runs."""
        self._scheduler.delete(request.name)
        return Empty()

    def _message(self, snapshot: OperationSnapshot) -> operations_pb2.Operation:
        """The operation, with a RequestMetadata that says what it is for."""
        return operation_message(snapshot, live=self._live, for_people=True)

    async def _wait(self, name: str) -> OperationSnapshot:
        async with aclosing(self._scheduler.watch(name)) as snapshots:
            async for snapshot in snapshots:
                if snapshot.is_done:
                    return snapshot
        return self._scheduler.get(name)


def _fitting(found: Iterable[OperationSnapshot]) -> Iterator[OperationSnapshot]:
    """As many as fit into one message, at least one."""
    size = 0
    for number, snapshot in enumerate(found):
        size += len(snapshot.response or b"") + _SMALL
        if number and size > _LARGEST_MESSAGE:
            return
        yield snapshot


def _instance_of(name: str) -> str | None:
    if name in ("", _COLLECTION, f"/{_COLLECTION}"):
        return None
    return name.removesuffix(f"/{_COLLECTION}")


def _parse_token(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit()):
        raise InvalidRequest(f"{token[:80]!r} is not a page token of this server")
    return int(token)


def _parse_filter(text: str) -> bool | None:
    compact = text.replace(" ", "").lower()
    choices = {"": None, "done=true": True, "done=false": False}
    if compact not in choices:
        raise InvalidRequest(f"filter {text[:160]!r} is neither done=true nor done=false")
    return choices[compact]
