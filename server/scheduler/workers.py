"""The workers that are connected: who waits, who holds a lease, who has fallen silent."""

from __future__ import annotations

from server.scheduler import commands as c
from server.scheduler import matching
from server.scheduler.board import Board
from server.scheduler.deadlines import Deadlines
from server.scheduler.settings import SchedulerSettings
from server.scheduler.state import Execution, Kind, Worker
from server.scheduler.values import Offer, WorkerDescription, WorkerSnapshot


class Workers:
    """Registers workers, holds their calls and answers them by commands to `out`."""

    def __init__(self, settings: SchedulerSettings, board: Board, out: list[c.Command]) -> None:
        self.by_name: dict[str, Worker] = {}
        self.drained: set[str] = set()
        self.silent: Deadlines[str] = Deadlines()
        self.polls: Deadlines[str] = Deadlines()
        self.vanished: Deadlines[Offer] = Deadlines()
        self._settings = settings
        self._board = board
        self._out = out

    def seen(self, description: WorkerDescription, now: float) -> Worker:
        """The worker, registered anew when it is not known or offers something else."""
        worker = self.by_name.get(description.name)
        if worker is None:
            kind = self._join_kind(description.offer)
            worker = Worker(description=description, kind=kind, last_seen=now)
            self.by_name[worker.name] = worker
            kind.workers[worker.name] = worker
        elif worker.description != description:
            self._leave_kind(worker, now)
            worker.description = description
            worker.kind = self._join_kind(description.offer)
            worker.kind.workers[worker.name] = worker
        worker.last_seen = now
        worker.is_forgiven = False
        self.silent.set(worker.name, now + self._settings.worker_lost_after)
        return worker

    def forgive(self, worker: Worker, late: float, now: float) -> None:
        """Give a worker more time, once: the scheduler could not hear it for `late` seconds."""
        worker.is_forgiven = True
        self.silent.set(worker.name, now + min(late, self._settings.worker_lost_after))

    def hold(self, worker: Worker, call: int, now: float) -> None:
        """Keep the call open until there is work or the poll interval is over."""
        worker.call = call
        self.silent.clear(worker.name)
        self.polls.set(worker.name, now + self._settings.poll_interval)
        if worker.name not in self.drained:
            worker.kind.waiting[worker.name] = worker

    def release(self, worker: Worker, now: float) -> int | None:
        """Stop holding the worker's call, which the caller has to answer if there is one."""
        call, worker.call = worker.call, None
        if call is not None:
            worker.kind.waiting.pop(worker.name, None)
            self.polls.clear(worker.name)
            self.silent.set(worker.name, now + self._settings.worker_lost_after)
        return call

    def assign(self, worker: Worker, call: int, execution: Execution) -> None:
        """Tell the worker to run the execution whose lease it has."""
        spec = execution.spec
        self._answer(
            call,
            c.Assign(
                digest=spec.digest,
                action=spec.action,
                queued_at=execution.queued_at,
                instance_suffix=matching.suffix(
                    worker.description.offer.prefix, spec.requirement.instance
                ),
            ),
            self._settings.busy_interval,
        )

    def keep_going(self, call: int) -> None:
        """Tell the worker that all is well."""
        self._answer(call, c.KeepGoing(), self._settings.busy_interval)

    def stay_idle(self, call: int) -> None:
        """Tell the worker to drop whatever it does and to call again."""
        self._answer(call, c.StayIdle(), 0.0)

    def rest(self, call: int) -> None:
        """Tell a worker that wants no work to do nothing, without hurry."""
        self._answer(call, c.StayIdle(), self._settings.busy_interval)

    def remove(self, worker: Worker, now: float) -> None:
        """Forget a worker; its held call, if any, is answered."""
        call = self.release(worker, now)
        if call is not None:
            self.stay_idle(call)
        self.silent.clear(worker.name)
        self._leave_kind(worker, now)
        del self.by_name[worker.name]

    def drain(self, name: str) -> None:
        """Give the worker nothing more, also when it is not there yet."""
        self.drained.add(name)
        worker = self.by_name.get(name)
        if worker is not None:
            worker.kind.waiting.pop(name, None)

    def resume(self, name: str) -> Worker | None:
        """Undo `drain`; returns the worker if it could start at once."""
        self.drained.discard(name)
        worker = self.by_name.get(name)
        return worker if worker is not None and worker.call is not None else None

    def snapshot(self, worker: Worker) -> WorkerSnapshot:
        """The worker for a listing."""
        lease = worker.lease
        return WorkerSnapshot(
            name=worker.name,
            offer=worker.description.offer,
            is_drained=worker.name in self.drained,
            is_waiting=worker.call is not None,
            operations=tuple(o.name for o in lease.operations) if lease is not None else (),
            leased_at=worker.leased_at if lease is not None else None,
            last_seen=worker.last_seen,
        )

    def _answer(self, call: int, answer: c.Answer, next_in: float) -> None:
        self._out.append(c.AnswerWorker(call=call, answer=answer, next_in=next_in))

    def _join_kind(self, offer: Offer) -> Kind:
        self.vanished.clear(offer)
        return self._board.kind_for(offer)

    def _leave_kind(self, worker: Worker, now: float) -> None:
        kind = worker.kind
        kind.waiting.pop(worker.name, None)
        del kind.workers[worker.name]
        if not kind.workers:
            self.vanished.set(kind.offer, now + self._settings.worker_return_grace)
