"""The operations and executions that exist, and their moves through the transition table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from remote_apis.digest import PackedDigest
from server.scheduler import commands as c
from server.scheduler.deadlines import Deadlines
from server.scheduler.deduplication import ExecutionKey, sharing_key
from server.scheduler.settings import SchedulerSettings
from server.scheduler.state import Execution, Operation
from server.scheduler.transitions import STAGES, TABLE, Persistence, State, Transition, Trigger
from server.scheduler.values import ExecuteSpec, OperationRecord, OperationSnapshot

_T = TypeVar("_T")
_SHARED_VALUES = 1024


class Operations:
    """Applies the table; what has to be done outside goes to `out` as commands."""

    def __init__(self, settings: SchedulerSettings, out: list[c.Command]) -> None:
        self.by_name: dict[str, Operation] = {}
        self.checking: dict[int, Execution] = {}
        """Those whose results are being looked at, by number."""
        self.unattended: Deadlines[str] = Deadlines(coarse=True)
        self.retained: Deadlines[str] = Deadlines(coarse=True)
        self._settings = settings
        self._out = out
        self._sharing: dict[str, dict[PackedDigest, Execution]] = {}
        # Thousands of queued operations ask for the same: one object will do for all.
        self._shared_requirement = lru_cache(maxsize=_SHARED_VALUES)(_itself)
        self._shared_invocation = lru_cache(maxsize=_SHARED_VALUES)(_itself)
        self.unfinished = 0
        self._finished: dict[str, int] = {}
        self._finished_bytes = 0
        self._sequence = 0

    def in_flight(self, key: ExecutionKey) -> Execution | None:
        """The execution that a request with this key may share."""
        return self._sharing.get(key.instance, {}).get(key.digest)

    def create(self, name: str, spec: ExecuteSpec, queued_at: int, sequence: int = 0) -> Operation:
        """An operation, joined to the execution it may share, else with a NEW one of its own."""
        spec = replace(
            spec,
            requirement=self._shared_requirement(spec.requirement),
            invocation=self._shared_invocation(spec.invocation),
        )
        key = sharing_key(spec)
        execution = self.in_flight(key) if key is not None else None
        number = self._numbered(sequence)
        if execution is None:
            execution = Execution(
                number=number,
                spec=spec,
                queued_at=queued_at,
                operations=(),
                priority=spec.priority,
            )
            if key is not None:
                self._sharing.setdefault(key.instance, {})[key.digest] = execution
        else:
            spec = replace(
                spec, action=execution.spec.action, packed_digest=execution.spec.packed_digest
            )
        operation = self._add(name, spec, queued_at, execution, number)
        execution.operations = (*execution.operations, operation)
        self.unfinished += 1
        return operation

    def create_done(
        self, name: str, spec: ExecuteSpec, queued_at: int, response: bytes, sequence: int = 0
    ) -> Operation:
        """An operation whose response is known from the start; call `keep` next."""
        number = self._numbered(sequence)
        operation = self._add(name, replace(spec, action=b""), queued_at, None, number)
        operation.own_state = TABLE[State.NEW, Trigger.FOUND].to
        operation.response = response
        return operation

    def move(self, execution: Execution, trigger: Trigger) -> None:
        """Move an execution, and with it all of its operations."""
        transition = TABLE[execution.state, trigger]
        execution.state = transition.to
        for operation in execution.operations:
            self._apply(operation, transition)

    def persist(self, operation: Operation) -> None:
        """Have a new operation kept before its name is given out."""
        self._out.append(c.PersistOperation(record=self.record(operation), urgent=True))

    def decide(self, operation: Operation, trigger: Trigger, response: bytes) -> Execution:
        """Give an operation its response; it leaves its execution, which is returned."""
        transition = TABLE[operation.state, trigger]
        execution = operation.execution
        assert execution is not None
        execution.operations = tuple(o for o in execution.operations if o is not operation)
        operation.execution = None
        operation.own_state = transition.to
        operation.attempts = execution.attempts
        operation.worker = execution.worker
        operation.response = response
        operation.spec = replace(operation.spec, action=b"")
        self.unattended.clear(operation.name)
        self._apply(operation, transition)
        return execution

    def close(self, execution: Execution) -> None:
        """Forget an execution that has no operation left."""
        self.checking.pop(execution.number, None)
        key = sharing_key(execution.spec)
        if key is not None:
            in_instance = self._sharing[key.instance]
            del in_instance[key.digest]
            if not in_instance:
                del self._sharing[key.instance]

    def recorded(self, operation: Operation, now: float) -> None:
        """The response is durable: show it, and keep it for a while."""
        transition = TABLE[operation.state, Trigger.RECORDED]
        operation.own_state = transition.to
        self._apply(operation, transition)
        self.unfinished -= 1
        self.keep(operation, now)

    def keep(self, operation: Operation, now: float) -> None:
        """Hold a finished operation for the retention time, within the limits of memory."""
        size = len(operation.response or b"")
        self._finished[operation.name] = size
        self._finished_bytes += size
        self.retained.set(operation.name, now + self._settings.retention)
        while len(self._finished) > 1 and (
            len(self._finished) > self._settings.max_finished
            or self._finished_bytes > self._settings.max_finished_bytes
        ):
            self.forget(self.by_name[next(iter(self._finished))])

    def forget(self, operation: Operation) -> None:
        """Drop a finished operation."""
        transition = TABLE[operation.state, Trigger.FORGOTTEN]
        operation.own_state = transition.to
        self._apply(operation, transition)
        self._finished_bytes -= self._finished.pop(operation.name, 0)
        self.retained.clear(operation.name)
        del self.by_name[operation.name]

    def watch_unattended(self, operations: Iterable[Operation], at: float) -> None:
        """Set the deadline of those operations that no client waits for."""
        for operation in operations:
            if not operation.waiters:
                self.unattended.set(operation.name, at)

    def snapshot(self, operation: Operation) -> OperationSnapshot:
        """The operation as clients may see it now."""
        execution = operation.execution
        state = operation.state
        return OperationSnapshot(
            name=operation.name,
            sequence=operation.sequence,
            requirement=operation.spec.requirement,
            digest=operation.spec.digest,
            stage=STAGES[state],
            queued_at=operation.queued_at,
            priority=operation.spec.priority,
            invocation=operation.spec.invocation,
            label=operation.spec.label,
            attempts=operation.attempts if execution is None else execution.attempts,
            worker=operation.worker if execution is None else execution.worker,
            wishes=operation.spec.wishes,
            response=operation.response if state is State.DONE else None,
        )

    def record(self, operation: Operation) -> OperationRecord:
        """The operation as it is to be kept.

        With the stamp of its execution, so that a report about that is still believed when the
        operation that brought the stamp is gone.
        """
        execution = operation.execution
        return OperationRecord(
            name=operation.name,
            sequence=operation.sequence,
            spec=operation.spec,
            queued_at=operation.queued_at if execution is None else execution.queued_at,
            attempts=operation.attempts if execution is None else execution.attempts,
            worker=operation.worker if execution is None else execution.worker,
            response=operation.response,
        )

    def _numbered(self, sequence: int) -> int:
        """The number from before a restart, or else the next."""
        self._sequence = max(self._sequence + 1, sequence)
        return sequence or self._sequence

    def _add(
        self,
        name: str,
        spec: ExecuteSpec,
        queued_at: int,
        execution: Execution | None,
        number: int,
    ) -> Operation:
        operation = Operation(
            name=name,
            sequence=number,
            spec=spec,
            queued_at=queued_at,
            execution=execution,
        )
        self.by_name[name] = operation
        return operation

    def _apply(self, operation: Operation, transition: Transition) -> None:
        if transition.persistence is Persistence.LATER:
            self._out.append(c.PersistOperation(record=self.record(operation), urgent=False))
        elif transition.persistence is Persistence.URGENT:
            self.persist(operation)
        elif transition.persistence is Persistence.FINAL:
            self._out.append(c.FinishOperation(record=self.record(operation)))
        elif transition.persistence is Persistence.REMOVED:
            self._out.append(c.ForgetOperation(operation=operation.name))
        if transition.publish:
            self._out.append(c.PublishOperation(operation=operation.name))


def _itself(value: _T) -> _T:
    return value
