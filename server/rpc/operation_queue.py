"""The OperationQueue service (Buildbarn's remote worker protocol): where workers get their work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc.aio

from remote_apis.errors import InvalidRequest
from remote_apis.resource_names import check_instance_name
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.logstream.v1 import remote_logstream_pb2 as ls_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2 as rw_pb
from remote_apis.stubs.buildbarn.remoteworker import remoteworker_pb2_grpc as rw_grpc
from server.logstream.live import LiveOutputs, LivePair
from server.rpc.execution_messages import function_message
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.driver import Scheduler
from server.scheduler.values import Offer, WorkerDescription

_Context = grpc.aio.ServicerContext[Any, Any]


class OperationQueueServicer(rw_grpc.OperationQueueServicer):
    """Synchronize. `wall_clock` gives nanoseconds since 1970."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        live: LiveOutputs | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`live`: where workers may send what actions print while they run."""
        self._scheduler = scheduler
        self._live = live
        self._wall_clock = wall_clock

    async def Synchronize(
        self, request: rw_pb.SynchronizeRequest, context: _Context
    ) -> rw_pb.SynchronizeResponse:
        """Take a worker's report in and say what it should do. Raises InvalidRequest."""
        worker, report = _description(request), _report(request)
        pair: LivePair | None = None

        def on_assign(assign: c.Assign) -> None:
            nonlocal pair
            if self._live is not None:
                instance = "/".join(filter(None, (worker.offer.prefix, assign.instance_suffix)))
                pair = self._live.begin(worker.name, instance, assign.digest)

        if self._live is not None and isinstance(report, e.Completed):
            self._live.end(worker.name, request.current_state.executing.completed.result)
        elif self._live is not None and isinstance(report, e.Executing):
            self._live.keep(worker.name)
        answer = await self._scheduler.synchronize(
            worker, report, prefers_idle=request.prefer_being_idle, on_assign=on_assign
        )
        response = rw_pb.SynchronizeResponse()
        response.next_synchronization_at.FromNanoseconds(
            self._wall_clock() + int(answer.next_in * 1e9)
        )
        if isinstance(answer.answer, c.Assign):
            _fill(response.desired_state.executing, answer.answer)
            _add_streams(response.desired_state.executing, pair)
        elif isinstance(answer.answer, c.StayIdle):
            response.desired_state.idle.SetInParent()
        return response


def worker_name(worker_id: Mapping[str, str]) -> str:
    """One name for the labels of a worker: `a=1,b=2`, or the value alone if that is unambiguous."""
    if len(worker_id) == 1:
        (value,) = worker_id.values()
        if value and "=" not in value:
            return value
    return ",".join(f"{key}={value}" for key, value in sorted(worker_id.items()))


def _description(request: rw_pb.SynchronizeRequest) -> WorkerDescription:
    if not request.worker_id:
        raise InvalidRequest("the worker has no worker_id")
    properties = {(each.name, each.value) for each in request.platform.properties}
    prefix = check_instance_name(request.instance_name_prefix)
    return WorkerDescription(
        name=worker_name(request.worker_id),
        offer=Offer(prefix, tuple(sorted(properties))),
        size_class=request.size_class,
    )


def _report(request: rw_pb.SynchronizeRequest) -> e.Report:
    kind = request.current_state.WhichOneof("worker_state")
    if kind == "idle":
        return e.Idle()
    if kind != "executing":
        raise InvalidRequest("the worker does not say what it does (current_state)")
    executing = request.current_state.executing
    digest = executing.action_digest
    if not digest.hash:
        raise InvalidRequest("the worker executes, and does not say which action")
    if executing.WhichOneof("execution_state") != "completed":
        return e.Executing(hash=digest.hash, size=digest.size_bytes)
    response: re_pb.ExecuteResponse = executing.completed
    metadata = response.result.execution_metadata
    _remove_streams(metadata)
    return e.Completed(
        hash=digest.hash,
        size=digest.size_bytes,
        response=response.SerializeToString(),
        code=response.status.code,
        message=response.status.message,
        queued_at=metadata.queued_timestamp.ToNanoseconds(),
    )


def _fill(message: rw_pb.DesiredState.Executing, assign: c.Assign) -> None:
    message.action_digest.CopyFrom(assign.digest.to_message())
    message.action.ParseFromString(assign.action)
    message.queued_timestamp.FromNanoseconds(assign.queued_at)
    message.instance_name_suffix = assign.instance_suffix
    message.digest_function = function_message(assign.digest)


def _add_streams(message: rw_pb.DesiredState.Executing, pair: LivePair | None) -> None:
    """Two LogStream messages among the auxiliary metadata: stdout's, then stderr's."""
    if pair is not None:
        for name, stream in zip(pair.readable, (pair.stdout, pair.stderr), strict=True):
            message.auxiliary_metadata.add().Pack(
                ls_pb.LogStream(name=name, write_resource_name=str(stream))
            )


def _remove_streams(metadata: re_pb.ExecutedActionMetadata) -> None:
    """Workers hand auxiliary metadata back; the streams are nothing to keep with a result."""
    kept = [
        each
        for each in metadata.auxiliary_metadata
        if each.TypeName() != ls_pb.LogStream.DESCRIPTOR.full_name
    ]
    if len(kept) < len(metadata.auxiliary_metadata):
        del metadata.auxiliary_metadata[:]
        metadata.auxiliary_metadata.extend(kept)
