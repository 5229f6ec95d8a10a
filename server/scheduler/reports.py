"""What workers report, and what they are told."""

from __future__ import annotations

from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler import retries
from server.scheduler.leases import Leases, is_about
from server.scheduler.operations import Operations
from server.scheduler.settings import SchedulerSettings
from server.scheduler.state import Execution, Worker
from server.scheduler.transitions import Trigger
from server.scheduler.workers import Workers


class Reports:
    """Compares what a worker says with the lease it has.

    A report about anything but that lease changes nothing: the worker is told of its lease again,
    to stop, or to take new work.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        *,
        operations: Operations,
        workers: Workers,
        leases: Leases,
        out: list[c.Command],
    ) -> None:
        self._settings = settings
        self._operations = operations
        self._workers = workers
        self._leases = leases
        self._out = out

    def hear(self, worker: Worker, event: e.WorkerSynchronized) -> None:
        """Take a report in and answer it, now or when there is work."""
        report = event.report
        if worker.lease is None and not isinstance(report, e.Idle):
            fence = report.queued_at if isinstance(report, e.Completed) else 0
            self._leases.readopt(worker, report.hash, report.size, fence)
        self._leases.not_back_to(worker, event.now)
        if isinstance(report, e.Executing):
            self._executing(worker, event, report)
        elif isinstance(report, e.Completed):
            self._completed(worker, event, report)
        else:
            self._idle(worker, event)

    def _idle(self, worker: Worker, event: e.WorkerSynchronized) -> None:
        lease = worker.lease
        if lease is None:
            self._offer_work(worker, event)
        elif event.prefers_idle or worker.repeats >= self._settings.max_repeats:
            self._leases.fail(lease, retries.dropped(worker.name), event.now)
            self._offer_work(worker, event)
        else:
            self._repeat(worker, lease, event.call)

    def _executing(self, worker: Worker, event: e.WorkerSynchronized, report: e.Executing) -> None:
        lease = worker.lease
        if lease is None:
            self._workers.stay_idle(event.call)
        elif is_about(lease, report.hash, report.size):
            worker.repeats = 0
            self._workers.keep_going(event.call)
        elif worker.repeats < self._settings.max_repeats:
            self._repeat(worker, lease, event.call)
        else:
            self._leases.fail(lease, retries.dropped(worker.name), event.now)
            self._workers.stay_idle(event.call)

    def _completed(self, worker: Worker, event: e.WorkerSynchronized, report: e.Completed) -> None:
        lease = worker.lease
        if lease is None or not is_about(lease, report.hash, report.size, report.queued_at):
            self._idle(worker, event)
            return
        if retries.is_worker_fault(report.code):
            reason = retries.reported(worker.name, report.code, report.message)
            self._leases.fail(lease, reason, event.now)
        else:
            self._leases.end(lease)
            self._operations.move(lease, Trigger.REPORTED)
            self._operations.checking[lease.number] = lease
            self._out.append(_check(lease, worker, report))
        self._offer_work(worker, event)

    def _offer_work(self, worker: Worker, event: e.WorkerSynchronized) -> None:
        if event.prefers_idle:
            self._workers.rest(event.call)
            return
        self._workers.hold(worker, event.call, event.now)
        if worker.name not in self._workers.drained:
            self._leases.feed(worker, event.now)

    def _repeat(self, worker: Worker, lease: Execution, call: int) -> None:
        worker.repeats += 1
        self._workers.assign(worker, call, lease)


def _check(execution: Execution, worker: Worker, report: e.Completed) -> c.CheckResult:
    spec = execution.spec
    return c.CheckResult(
        execution=execution.number,
        attempt=execution.attempts,
        instance=spec.requirement.instance,
        digest=spec.digest,
        do_not_cache=spec.do_not_cache,
        worker=worker.name,
        queued_at=execution.queued_at,
        response=report.response,
    )
