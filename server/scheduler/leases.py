"""Leases: how an execution gets to a worker, leaves it, and ends."""

from __future__ import annotations

from collections.abc import Sequence

from server.scheduler import matching, retries
from server.scheduler.board import Board
from server.scheduler.deadlines import Deadlines
from server.scheduler.operations import Operations
from server.scheduler.responses import failure_response
from server.scheduler.settings import SchedulerSettings
from server.scheduler.state import Execution, Operation, Worker
from server.scheduler.transitions import State, Trigger
from server.scheduler.values import Failure, Requirement
from server.scheduler.workers import Workers


class Leases:
    """Keeps this true: an execution is in its queue if and only if it is QUEUED, it has a lease
    if and only if it is EXECUTING, and nothing is queued that a waiting worker could run.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        *,
        board: Board,
        operations: Operations,
        workers: Workers,
        started: float,
    ) -> None:
        self.unmatched: Deadlines[Requirement] = Deadlines()
        self.returning: Deadlines[int] = Deadlines()
        self._awaited: dict[int, Execution] = {}
        """Those that `returning` has, by number."""
        self._settings = settings
        self._board = board
        self._operations = operations
        self._workers = workers
        self._patient_until = started + settings.no_worker_grace
        self._former: dict[str, dict[int, Execution]] = {}

    def dispatch(self, execution: Execution, now: float, *, at_front: bool) -> None:
        """Give an execution that became QUEUED to a waiting worker, or have it wait for one."""
        self._dispatch_all([execution], now, at_front=at_front)

    def _dispatch_all(self, executions: Sequence[Execution], now: float, *, at_front: bool) -> None:
        """The same for several, whose turns are decided once all of them are queued."""
        for execution in executions:
            queue = self._board.queue_for(execution.requirement)
            queue.push(execution, at_front=at_front)
            if execution.worker:
                self._remember_former(execution)
            if not queue.kinds and execution.requirement not in self.unmatched:
                self.unmatched.set(execution.requirement, now + self.grace(now))
        for execution in executions:
            while execution.state is State.QUEUED:
                worker = self._board.free_worker(execution)
                if worker is None:
                    break
                self.feed(worker, now)

    def feed(self, worker: Worker, now: float) -> None:
        """Give a waiting worker the next execution, if there is one for it."""
        execution = self._board.take_for(worker.kind)
        if execution is None:
            return
        call = self._workers.release(worker, now)
        assert call is not None
        worker.leased_at = now
        self._start(worker, execution, Trigger.ASSIGNED)
        self._workers.assign(worker, call, execution)

    def await_former(self, execution: Execution, now: float) -> None:
        """Leave an execution to the worker that was at it when the scheduler went down.

        That one needs no longer to report than any other before it counts as lost.
        """
        self._remember_former(execution)
        self._awaited[execution.number] = execution
        self.returning.set(execution.number, now + self._settings.worker_lost_after)

    def not_come_back(self, now: float) -> list[Execution]:
        """Those whose former workers have not been heard of in time."""
        return [self._awaited[number] for number in self.returning.take_due(now)]

    def readopt(self, worker: Worker, hash_: str, size: int, queued_at: int = 0) -> None:
        """Give a worker the lease back that it had, if nobody else got it since."""
        for execution in self._former.get(worker.name, {}).values():
            if is_about(execution, hash_, size, queued_at):
                was_queued = execution.state is State.QUEUED
                queue = self._board.queue_for(execution.requirement)
                worker.leased_at = worker.last_seen
                self._start(worker, execution, Trigger.ADOPTED)
                if was_queued:
                    queue.discard()
                self._tidy(execution.requirement)
                return

    def not_back_to(self, worker: Worker, now: float) -> None:
        """A worker has reported: what was left to it and is not its lease now, others may have."""
        formers = self._former.get(worker.name, {}).values()
        self.await_no_longer([e for e in formers if e.state is State.RETURNING], now)

    def await_no_longer(self, executions: Sequence[Execution], now: float) -> None:
        """The workers that executions were left to do not have them, or did not come back."""
        for execution in executions:
            self._await_not(execution)
            self._operations.move(execution, Trigger.DROPPED)
            self._operations.watch_unattended(
                execution.operations, now + self._settings.restored_grace
            )
        self._dispatch_all(executions, now, at_front=True)

    def hurry(self, execution: Execution, priority: int) -> None:
        """Raise the priority of an execution because of an operation that joined it."""
        execution.priority = priority
        if execution.state is State.QUEUED:
            queue = self._board.queue_for(execution.requirement)
            queue.discard()
            queue.push(execution, at_front=False)

    def end(self, execution: Execution) -> None:
        """Take the lease away from whoever has it."""
        worker = self._workers.by_name.get(execution.worker)
        if worker is not None and worker.lease is execution:
            worker.lease = None
            self._board.ended(execution.spec.invocation)

    def fail(self, execution: Execution, reason: Failure, now: float) -> None:
        """A lease came to nothing: queue again, or give up."""
        self.end(execution)
        if retries.may_retry(attempts=execution.attempts, limit=self._settings.max_attempts):
            self._operations.move(execution, Trigger.RETRIED)
            self._operations.watch_unattended(
                execution.operations, now + self._settings.unattended_grace
            )
            self.dispatch(execution, now, at_front=True)
        else:
            failure = retries.given_up(attempts=execution.attempts, reason=reason)
            self.answer_all(execution, Trigger.GIVEN_UP, failure_response(failure))

    def lose(self, worker: Worker, reason: Failure, now: float) -> None:
        """A worker is gone, and its lease with it."""
        lease = worker.lease
        if lease is not None:
            self.end(lease)
        self._workers.remove(worker, now)
        if lease is not None:
            self.fail(lease, reason, now)

    def answer_one(self, operation: Operation, trigger: Trigger, failure: Failure) -> None:
        """Fail one operation; its execution ends with the last of them."""
        execution = operation.execution
        assert execution is not None
        was_queued = execution.state is State.QUEUED
        if len(execution.operations) == 1:
            self.end(execution)
        self._operations.decide(operation, trigger, failure_response(failure))
        if not execution.operations:
            self._close(execution, was_queued=was_queued)

    def answer_all(self, execution: Execution, trigger: Trigger, response: bytes) -> None:
        """Give all operations of an execution without a lease their response."""
        was_queued = execution.state is State.QUEUED
        for operation in execution.operations:
            self._operations.decide(operation, trigger, response)
        self._close(execution, was_queued=was_queued)

    def grace(self, now: float) -> float:
        """How long an action that no worker matches may wait for one."""
        if now < self._patient_until or not self._board.kinds:
            return max(self._settings.no_worker_grace, self._patient_until - now)
        return self._settings.no_match_grace

    def await_return(self, now: float) -> None:
        """The scheduler was down: the workers that it had may need a while to find back."""
        returned = now + self._settings.worker_return_grace
        self._patient_until = max(self._patient_until, returned)

    def refusal(self, requirement: Requirement, now: float) -> Failure | None:
        """Why an action with this requirement need not even be queued."""
        if self.grace(now) > 0 or requirement in self._board.queues:
            return None
        offers = self._board.offers()
        if any(matching.matches(requirement, offer) for offer in offers):
            return None
        return self._mismatch(requirement)

    def kinds_changed(self, now: float) -> None:
        """Start or stop the patience with requirements, after kinds of workers came or went."""
        for requirement, queue in self._board.queues.items():
            if queue.kinds:
                self.unmatched.clear(requirement)
            elif requirement not in self.unmatched:
                self.unmatched.set(requirement, now + self.grace(now))

    def give_up_unmatched(self, requirement: Requirement) -> None:
        """Fail everything that waits for a worker that nobody has."""
        response = failure_response(self._mismatch(requirement))
        for execution in list(self._board.queues[requirement]):
            self.answer_all(execution, Trigger.UNMATCHED, response)

    def _start(self, worker: Worker, execution: Execution, trigger: Trigger) -> None:
        self._forget_former(execution)
        worker.lease = execution
        worker.repeats = 0
        execution.worker = worker.name
        execution.attempts += 1
        self._board.started(execution.spec.invocation)
        self._operations.move(execution, trigger)
        self._tidy(execution.requirement)

    def _close(self, execution: Execution, *, was_queued: bool) -> None:
        execution.state = State.GONE
        self._operations.close(execution)
        self._forget_former(execution)
        if was_queued:
            self._board.queue_for(execution.requirement).discard()
        self._tidy(execution.requirement)

    def _tidy(self, requirement: Requirement) -> None:
        if self._board.forget_if_empty(requirement):
            self.unmatched.clear(requirement)

    def _remember_former(self, execution: Execution) -> None:
        self._former.setdefault(execution.worker, {})[execution.number] = execution

    def _await_not(self, execution: Execution) -> None:
        self.returning.clear(execution.number)
        self._awaited.pop(execution.number, None)

    def _forget_former(self, execution: Execution) -> None:
        self._await_not(execution)
        formers = self._former.get(execution.worker)
        if formers is not None:
            formers.pop(execution.number, None)
            if not formers:
                del self._former[execution.worker]

    def _mismatch(self, requirement: Requirement) -> Failure:
        message = matching.explain(requirement, self._board.offers())
        return Failure(code=retries.FAILED_PRECONDITION, message=message)


def is_about(execution: Execution, hash_: str, size: int, queued_at: int = 0) -> bool:
    """Whether a report belongs to this execution; queued_at, where known, is the fence."""
    digest = execution.spec.digest
    return (
        digest.hash == hash_
        and digest.size == size
        and (not queued_at or queued_at == execution.queued_at)
    )
