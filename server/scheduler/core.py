"""The core: events in, commands out. It does no I/O and reads no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler import retries
from server.scheduler.board import Board
from server.scheduler.deduplication import ExecutionKey
from server.scheduler.leases import Leases
from server.scheduler.operations import Operations
from server.scheduler.reports import Reports
from server.scheduler.settings import SchedulerSettings
from server.scheduler.state import Operation
from server.scheduler.transitions import State, Trigger
from server.scheduler.values import (
    Failure,
    Offer,
    OperationSnapshot,
    Requirement,
    WorkerSnapshot,
)
from server.scheduler.workers import Workers


class Core:
    """All decisions of the scheduler.

    `handle` takes one event and returns what is to be done, in order. Events come with a `now`
    that never decreases. Where a rule lives: states and moves in transitions.py; which worker,
    whose turn, how often and what is shared in matching.py, fairness.py, retries.py and
    deduplication.py; what a worker is told in reports.py; how leases start and end in leases.py.
    """

    def __init__(self, settings: SchedulerSettings, *, now: float) -> None:
        self._settings = settings
        self._out: list[c.Command] = []
        self._board = Board()
        self._operations = Operations(settings, self._out)
        self._workers = Workers(settings, self._board, self._out)
        self._leases = Leases(
            settings,
            board=self._board,
            operations=self._operations,
            workers=self._workers,
            started=now,
        )
        self._reports = Reports(
            settings,
            operations=self._operations,
            workers=self._workers,
            leases=self._leases,
            out=self._out,
        )
        self._handlers: Mapping[type[e.Event], Callable[[Any], None]] = {
            e.ExecuteRequested: self._execute_requested,
            e.ResultFound: self._result_found,
            e.OperationRestored: self._operation_restored,
            e.WaiterAttached: self._waiter_attached,
            e.WaiterDropped: self._waiter_dropped,
            e.OperationCancelled: self._operation_cancelled,
            e.OperationDeleted: self._operation_deleted,
            e.OperationRecorded: self._operation_recorded,
            e.ResultChecked: self._result_checked,
            e.WorkerSynchronized: self._worker_synchronized,
            e.WorkerHungUp: self._worker_hung_up,
            e.WorkerLost: self._worker_lost,
            e.WorkerDrained: self._worker_drained,
            e.WorkerResumed: self._worker_resumed,
            e.Tick: self._tick,
        }

    def handle(self, event: e.Event) -> list[c.Command]:
        """Take an event in; the commands are to be carried out in order."""
        self._handlers[type(event)](event)
        commands = self._out.copy()
        self._out.clear()
        return commands

    def next_deadline(self) -> float | None:
        """When a Tick is due at the latest, or None when nothing waits for time to pass."""
        deadlines = (
            self._workers.silent.next(),
            self._workers.polls.next(),
            self._workers.vanished.next(),
            self._operations.unattended.next(),
            self._operations.retained.next(),
            self._leases.unmatched.next(),
            self._leases.returning.next(),
        )
        return min((at for at in deadlines if at is not None), default=None)

    def snapshot(self, name: str) -> OperationSnapshot | None:
        """An operation as it is now, or None when there is none of that name."""
        operation = self._operations.by_name.get(name)
        return None if operation is None else self._operations.snapshot(operation)

    def snapshots(self, *, after: int = 0) -> Iterator[OperationSnapshot]:
        """The operations numbered above `after`, in the order of their requests."""
        for operation in list(self._operations.by_name.values()):
            if operation.sequence > after:
                yield self._operations.snapshot(operation)

    @property
    def unfinished(self) -> int:
        """How many operations are still to be answered."""
        return self._operations.unfinished

    def queued(self) -> dict[Requirement, int]:
        """How many executions wait for a worker, by what they ask of it."""
        return {requirement: len(queue) for requirement, queue in self._board.queues.items()}

    def workers(self) -> list[WorkerSnapshot]:
        """All workers that are connected."""
        return [self._workers.snapshot(worker) for worker in self._workers.by_name.values()]

    def drained(self) -> frozenset[str]:
        """The names of the workers that get nothing, connected or not."""
        return frozenset(self._workers.drained)

    def offers(self) -> list[Offer]:
        """What the workers offer that are or were lately connected."""
        return self._board.offers()

    def is_in_flight(self, key: ExecutionKey) -> bool:
        """Whether a request with this key would share an execution."""
        return self._operations.in_flight(key) is not None

    # What clients do

    def _execute_requested(self, event: e.ExecuteRequested) -> None:
        refusal = self._crowded() or self._leases.refusal(event.spec.requirement, event.now)
        if refusal is not None:
            self._out.append(c.RefuseOperation(operation=event.operation, failure=refusal))
            return
        operation = self._operations.create(event.operation, event.spec, event.queued_at)
        self._admit(operation, Trigger.REQUESTED, event.now, self._settings.unattended_grace)

    def _crowded(self) -> Failure | None:
        if self.unfinished < self._settings.max_unfinished:
            return None
        message = f"{self.unfinished} operations are under way already"
        return Failure(code=retries.RESOURCE_EXHAUSTED, message=message)

    def _result_found(self, event: e.ResultFound) -> None:
        operation = self._operations.create_done(
            event.operation, event.spec, event.queued_at, event.response
        )
        self._operations.keep(operation, event.now)

    def _operation_restored(self, event: e.OperationRestored) -> None:
        record = event.record
        if record.response is not None:
            done = self._operations.create_done(
                record.name, record.spec, record.queued_at, record.response, record.sequence
            )
            done.attempts, done.worker = record.attempts, record.worker
            self._operations.keep(done, event.now)
            return
        self._leases.await_return(event.now)
        operation = self._operations.create(
            record.name, record.spec, record.queued_at, record.sequence
        )
        execution = operation.execution
        if execution is not None and execution.state is State.NEW:
            # One lease is always left: that the scheduler went down says nothing of the action.
            execution.attempts = min(record.attempts, self._settings.max_attempts - 1)
            execution.worker = record.worker
        self._admit(operation, Trigger.RESTORED, event.now, self._settings.restored_grace)

    def _admit(self, operation: Operation, trigger: Trigger, now: float, grace: float) -> None:
        execution = operation.execution
        assert execution is not None
        self._operations.watch_unattended([operation], now + grace)
        if execution.state is State.NEW and trigger is Trigger.RESTORED and execution.worker:
            self._operations.move(execution, Trigger.LEFT)
            self._leases.await_former(execution, now)
            return
        if execution.state is State.NEW:
            self._operations.move(execution, trigger)
            self._leases.dispatch(execution, now, at_front=False)
            return
        if trigger is Trigger.REQUESTED:
            self._operations.persist(operation)
        if operation.spec.priority < execution.priority:
            self._leases.hurry(execution, operation.spec.priority)

    def _waiter_attached(self, event: e.WaiterAttached) -> None:
        operation = self._operations.by_name.get(event.operation)
        if operation is not None:
            operation.waiters += 1
            self._operations.unattended.clear(operation.name)

    def _waiter_dropped(self, event: e.WaiterDropped) -> None:
        operation = self._operations.by_name.get(event.operation)
        if operation is None:
            return
        operation.waiters -= 1
        if operation.execution is not None:
            deadline = event.now + self._settings.unattended_grace
            self._operations.watch_unattended([operation], deadline)

    def _operation_cancelled(self, event: e.OperationCancelled) -> None:
        operation = self._operations.by_name.get(event.operation)
        if operation is not None and operation.execution is not None:
            failure = Failure(code=retries.CANCELLED, message="the operation was cancelled")
            self._leases.answer_one(operation, Trigger.CANCELLED, failure)

    def _operation_deleted(self, event: e.OperationDeleted) -> None:
        operation = self._operations.by_name.get(event.operation)
        if operation is not None and operation.state is State.DONE:
            self._operations.forget(operation)

    # What the driver did

    def _operation_recorded(self, event: e.OperationRecorded) -> None:
        operation = self._operations.by_name.get(event.operation)
        if operation is not None and operation.state is State.RECORDING:
            self._operations.recorded(operation, event.now)

    def _result_checked(self, event: e.ResultChecked) -> None:
        execution = self._operations.checking.get(event.execution)
        if execution is None or execution.attempts != event.attempt:
            return
        if execution.state is not State.CHECKING:
            return
        if isinstance(event.verdict, Failure):
            self._leases.fail(execution, event.verdict, event.now)
        else:
            self._leases.answer_all(execution, Trigger.ACCEPTED, event.verdict)

    # What workers do

    def _worker_synchronized(self, event: e.WorkerSynchronized) -> None:
        known = self._workers.by_name.get(event.worker.name)
        superseded = None if known is None else self._workers.release(known, event.now)
        if superseded is not None:
            self._workers.stay_idle(superseded)
        kinds = len(self._board.kinds)
        worker = self._workers.seen(event.worker, event.now)
        if len(self._board.kinds) != kinds:
            self._leases.kinds_changed(event.now)
        self._reports.hear(worker, event)

    def _worker_hung_up(self, event: e.WorkerHungUp) -> None:
        worker = self._workers.by_name.get(event.worker)
        if worker is not None and worker.call == event.call:
            self._workers.release(worker, event.now)

    def _worker_lost(self, event: e.WorkerLost) -> None:
        worker = self._workers.by_name.get(event.worker)
        if worker is not None:
            self._leases.lose(worker, retries.killed(worker.name), event.now)

    def _worker_drained(self, event: e.WorkerDrained) -> None:
        self._workers.drain(event.worker)

    def _worker_resumed(self, event: e.WorkerResumed) -> None:
        worker = self._workers.resume(event.worker)
        if worker is not None:
            worker.kind.waiting[worker.name] = worker
            self._leases.feed(worker, event.now)

    # Time

    def _tick(self, event: e.Tick) -> None:
        now = event.now
        for name in self._workers.silent.take_due(now):
            worker = self._workers.by_name[name]
            if event.late > self._settings.stall and not worker.is_forgiven:
                self._workers.forgive(worker, event.late, now)
                continue
            self._leases.lose(worker, retries.lost(name, now - worker.last_seen), now)
        for name in self._workers.polls.take_due(now):
            call = self._workers.release(self._workers.by_name[name], now)
            if call is not None:
                self._workers.stay_idle(call)
        for offer in self._workers.vanished.take_due(now):
            self._board.forget_kind(self._board.kinds[offer])
            self._leases.kinds_changed(now)
        for name in self._operations.unattended.take_due(now):
            self._abandon(name)
        for name in self._operations.retained.take_due(now):
            self._operations.forget(self._operations.by_name[name])
        self._leases.await_no_longer(self._leases.not_come_back(now), now)
        for requirement in self._leases.unmatched.take_due(now):
            self._leases.give_up_unmatched(requirement)

    def _abandon(self, name: str) -> None:
        operation = self._operations.by_name[name]
        if operation.state is State.QUEUED:
            message = "nobody waited for the operation, so it was dropped from the queue"
            failure = Failure(code=retries.UNAVAILABLE, message=message)
            self._leases.answer_one(operation, Trigger.ABANDONED, failure)
