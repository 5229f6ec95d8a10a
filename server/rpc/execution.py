"""The Execution service (REAPI 2.12 Execution)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc.aio
from google.longrunning import operations_pb2

from remote_apis.digest import Digest
from remote_apis.errors import MissingBlobs
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from server.actioncache.interface import ActionCache, ActionKey
from server.blobstore.interface import BlobStore
from server.logstream.live import LiveOutputs
from server.rpc.execution_actions import ActionPreparer
from server.rpc.execution_checks import ExecutionLimits
from server.rpc.execution_messages import (
    cached_response,
    missing_response,
    operation_message,
    wishes_of,
    with_wishes,
)
from server.rpc.request_metadata import request_metadata
from server.rpc.status import status_of
from server.rpc.terms import Terms
from server.scheduler.driver import Scheduler
from server.scheduler.values import ExecuteSpec, OperationSnapshot, Requirement

_Context = grpc.aio.ServicerContext[Any, Any]
REQUEST_METADATA = "build.bazel.remote.execution.v2.requestmetadata-bin"
_MOST_IN_TRAILERS = 3500
"""Bytes of a status that arrive for certain: clients take 8 KiB of trailers."""
_LONGEST_LABEL = 160
_Operations = AsyncGenerator[operations_pb2.Operation, None]


class ExecutionServicer(re_grpc.ExecutionServicer):
    """Execute and WaitExecution.

    An operation gets its name once it is durable, so the stage CACHE_CHECK, which comes before,
    is never seen on a stream; a cached result arrives as one finished Operation.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        store: BlobStore,
        cache: ActionCache,
        terms: Terms,
        limits: ExecutionLimits | None = None,
        live: LiveOutputs | None = None,
    ) -> None:
        """`cache` hands out complete results only: give it completeness checking.

        `live`: the streams of what actions print, as OperationQueueServicer has them.
        """
        self._scheduler = scheduler
        self._store = store
        self._cache = cache
        self._limits = limits or ExecutionLimits()
        self._terms = terms
        self._live = live
        self._preparer = ActionPreparer(store, self._limits, offers=scheduler.offers)

    async def Execute(self, request: re_pb.ExecuteRequest, context: _Context) -> _Operations:
        """Run an action, or give out its cached result.

        Raises InvalidRequest, MissingBlobs (a few; many come in ExecuteResponse.status),
        FailedPrecondition without a suitable worker, Unavailable.
        """
        draft = self._draft(request, context)
        begun = await self._begin(draft, looks_up=not request.skip_cache_lookup)
        if isinstance(begun, OperationSnapshot):
            yield await self._message(begun)
            return
        async with aclosing(self._follow(begun)) as operations:
            async for operation in operations:
                yield operation

    async def WaitExecution(
        self, request: re_pb.WaitExecutionRequest, context: _Context
    ) -> _Operations:
        """Follow an operation, beginning with its present state. Raises NotFound."""
        async with aclosing(self._follow(request.name)) as operations:
            async for operation in operations:
                yield operation

    async def _begin(self, draft: ExecuteSpec, *, looks_up: bool) -> OperationSnapshot | str:
        """A finished operation, or the name of one that is under way."""
        found = await self._look_up(draft) if looks_up else None
        if found is not None:
            return found
        joins = self._scheduler.is_in_flight(draft)
        try:
            spec = await self._preparer.prepare(draft, is_known=joins)
        except MissingBlobs as error:
            if status_of(error).ByteSize() <= _MOST_IN_TRAILERS:
                raise
            return self._scheduler.found(draft, missing_response(error))
        if joins and not self._scheduler.is_in_flight(draft):
            # What there was to join has ended meanwhile, most likely with a cached result.
            return await self._begin(draft, looks_up=looks_up)
        return await self._scheduler.execute(spec)

    async def _follow(self, name: str) -> _Operations:
        async with aclosing(self._scheduler.watch(name)) as snapshots:
            async for snapshot in snapshots:
                yield await self._message(snapshot)

    async def _look_up(self, draft: ExecuteSpec) -> OperationSnapshot | None:
        result = await self._cache.get(ActionKey(draft.requirement.instance, draft.digest))
        if result is None:
            return None
        return self._scheduler.found(draft, cached_response(result))

    async def _message(self, snapshot: OperationSnapshot) -> operations_pb2.Operation:
        if snapshot.response is None:
            return operation_message(snapshot, live=self._live)
        response = await with_wishes(
            snapshot.response,
            snapshot.digest,
            snapshot.wishes,
            self._store,
            self._limits.max_inline_bytes,
        )
        return operation_message(snapshot, response)

    def _draft(self, request: re_pb.ExecuteRequest, context: _Context) -> ExecuteSpec:
        """What the request itself says; the action's content is still to come."""
        message = request.action_digest
        function = self._terms.function(request.digest_function, [message.hash])
        metadata = request_metadata(context)
        label = f"{metadata.action_mnemonic} {metadata.target_id}".strip()
        return ExecuteSpec(
            requirement=Requirement(self._terms.check_instance(request.instance_name), ()),
            packed_digest=Digest.from_message(message, function).packed(),
            action=b"",
            priority=request.execution_policy.priority,
            invocation=metadata.tool_invocation_id[:_LONGEST_LABEL],
            label=label[:_LONGEST_LABEL],
            wishes=wishes_of(request),
        )
