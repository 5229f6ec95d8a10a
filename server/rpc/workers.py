"""The Workers service (our own): the pool as whoever operates it sees it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import grpc.aio

from remote_apis.errors import InvalidRequest, NotFound
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2 as w_pb
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2_grpc as w_grpc
from server.rpc.execution_messages import function_message
from server.scheduler.driver import Scheduler
from server.scheduler.ports import Clock, SystemClock
from server.scheduler.values import WorkerSnapshot

_Context = grpc.aio.ServicerContext[Any, Any]
_State = w_pb.Worker.State


class WorkersServicer(w_grpc.WorkersServicer):
    """List, drain and resume workers. `clock` runs as the scheduler's does."""

    def __init__(self, *, scheduler: Scheduler, clock: Clock | None = None) -> None:
        self._scheduler = scheduler
        self._clock = clock or SystemClock()

    async def ListWorkers(
        self, request: w_pb.ListWorkersRequest, context: _Context
    ) -> w_pb.ListWorkersResponse:
        """All workers that are connected or drained, sorted by name."""
        return w_pb.ListWorkersResponse(workers=self._messages().values())

    async def DrainWorkers(
        self, request: w_pb.DrainWorkersRequest, context: _Context
    ) -> w_pb.DrainWorkersResponse:
        """Drain all that are named, or none. Raises NotFound, InvalidRequest, Unavailable."""
        names = self._named(request.names)
        await self._scheduler.drain_workers(names)
        return w_pb.DrainWorkersResponse(workers=self._these(names))

    async def ResumeWorkers(
        self, request: w_pb.ResumeWorkersRequest, context: _Context
    ) -> w_pb.ResumeWorkersResponse:
        """Resume all that are named, or none. Raises as DrainWorkers does."""
        names = self._named(request.names)
        await self._scheduler.resume_workers(names)
        return w_pb.ResumeWorkersResponse(workers=self._these(names))

    def _named(self, words: Iterable[str]) -> list[str]:
        known = {worker.name for worker in self._scheduler.workers()}
        return named(words, known | self._scheduler.drained_workers())

    def _these(self, names: Collection[str]) -> list[w_pb.Worker]:
        """Those named; one that is not connected leaves the list with being resumed."""
        known = self._messages()
        return [known.get(name) or _away(name) for name in names]

    def _messages(self) -> dict[str, w_pb.Worker]:
        away = {name: _away(name) for name in self._scheduler.drained_workers()}
        here = {worker.name: self._message(worker) for worker in self._scheduler.workers()}
        return dict(sorted((away | here).items()))

    def _message(self, worker: WorkerSnapshot) -> w_pb.Worker:
        message = w_pb.Worker(
            name=worker.name,
            state=_state(worker),
            instance_name_prefix=worker.offer.prefix,
        )
        for name, value in worker.offer.platform:
            message.platform.properties.add(name=name, value=value)
        age = 0.0 if worker.is_waiting else self._clock.monotonic() - worker.last_seen
        message.last_seen.FromNanoseconds(self._ago(age))
        if worker.leased_at is not None:
            operation = self._scheduler.get(worker.operations[0])
            lease = message.lease
            lease.operation_names.extend(worker.operations)
            lease.action_digest.CopyFrom(operation.digest.to_message())
            lease.digest_function = function_message(operation.digest)
            lease.label = operation.label
            lease.since.FromNanoseconds(self._ago(self._clock.monotonic() - worker.leased_at))
        return message

    def _ago(self, seconds: float) -> int:
        return self._clock.wall() - int(seconds * 1e9)


def _away(name: str) -> w_pb.Worker:
    return w_pb.Worker(name=name, state=_State.AWAY)


def named(words: Iterable[str], names: Collection[str]) -> list[str]:
    """The workers that the words name, sorted: each by its name or the value of one of its labels.

    Raises NotFound, with what may have been meant, and InvalidRequest when there are no words.
    """
    found: set[str] = set()
    asked = list(words)
    if not asked:
        raise InvalidRequest("no worker is named")
    for word in asked:
        matching = [word] if word in names else [n for n in names if word in _label_values(n)]
        if not matching:
            raise NotFound(_unknown(word, names))
        found.update(matching)
    return sorted(found)


def _label_values(name: str) -> list[str]:
    """The values in a name such as `slot=1,worker=a` (see `operation_queue.worker_name`).

    Without mere numbers: they tell slots apart, and one would stand for a slot of every machine.
    """
    values = [part.partition("=")[2] for part in name.split(",")]
    return [value for value in values if value and not value.isdecimal()]


def _unknown(word: str, names: Collection[str]) -> str:
    candidates = {value: None for name in sorted(names) for value in (name, *_label_values(name))}
    near = difflib.get_close_matches(word, candidates, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no worker {word!r}{hint}"


def _state(worker: WorkerSnapshot) -> w_pb.Worker.State:
    if worker.leased_at is None:
        return _State.DRAINED if worker.is_drained else _State.IDLE
    return _State.DRAINING if worker.is_drained else _State.RUNNING
