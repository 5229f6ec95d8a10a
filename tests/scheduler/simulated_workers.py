"""Simulated workers: they behave like Buildbarn's, die, stall and lose messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from remote_apis.digest import Digest
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.values import Offer, WorkerDescription
from tests.scheduler.world import RPC_TIMEOUT, Violated, World

_TICK_SLACK = 0.001


@dataclass(kw_only=True)
class SimulatedWorker:
    """`life` grows when it dies, which makes old plans void."""

    description: WorkerDescription
    life: int = 0
    is_up: bool = True
    paused_until: float = 0.0
    job: c.Assign | None = None
    job_number: int = 0
    is_finished: bool = False
    fault: int = 0
    """The status code that it will report."""
    call: int = 0
    """The synchronisation that it waits for; 0 for none."""
    confirmed: tuple[str, float] = "", 0.0
    """The action that the scheduler last told it to run or to go on with, and when."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A call that the scheduler has not answered."""

    worker: SimulatedWorker
    event: e.WorkerSynchronized
    since: float


class Fleet:
    """All workers of a world. What they tell the scheduler goes to `feed`."""

    def __init__(self, world: World, feed: Callable[[e.Event], None]) -> None:
        self._world = world
        self._feed = feed
        self._calls: dict[int, _Held] = {}
        """Those that the scheduler has to answer, oldest first."""
        self._answered: set[int] = set()
        self._drained: set[str] = set()
        self._given: dict[str, set[tuple[Digest, int]]] = {}
        """What each worker was ever told to run; it may be told so again."""
        self._takers: dict[tuple[Digest, int], list[SimulatedWorker]] = {}
        self.workers = [_new_worker(number) for number in range(world.plan.workers)]

    def start(self) -> None:
        """Have all of them connect, and some of them fail."""
        world = self._world
        for worker in self.workers:
            self._later(world.random.uniform(0, 5), self._synchronize, worker, 0)
        for _ in range(world.plan.worker_deaths):
            world.after(world.random.uniform(0, world.plan.faults_until), self._kill)
        for _ in range(world.plan.worker_pauses):
            world.after(world.random.uniform(0, world.plan.faults_until), self._pause)
        for _ in range(world.plan.worker_drains):
            world.after(world.random.uniform(0, world.plan.faults_until), self._drain)

    def scheduler_restarted(self) -> None:
        """The calls that the old scheduler held are gone; who is drained it finds in its store."""
        self._calls.clear()
        for name in sorted(self._drained):
            self._feed(e.WorkerDrained(now=0.0, worker=name))

    def take_answer(self, command: c.AnswerWorker) -> e.WorkerSynchronized:
        """The scheduler answers a call, which is returned."""
        if command.call in self._answered:
            raise Violated(f"call {command.call} was answered twice")
        self._answered.add(command.call)
        held = self._calls.pop(command.call)
        if isinstance(command.answer, c.Assign):
            held.worker.confirmed = command.answer.digest.hash, self._world.now
        elif isinstance(command.answer, c.KeepGoing) and isinstance(held.event.report, e.Executing):
            held.worker.confirmed = held.event.report.hash, self._world.now
        if isinstance(command.answer, c.Assign):
            self._check_assigned(held.event.worker.name, command.answer)
        if not self._world.happens(self._world.plan.lost_message):
            self._world.soon(lambda: self._answer(held.worker, command))
        return held.event

    def check_calls(self, poll_interval: float) -> None:
        """Raise Violated if a call is held for longer than the poll interval."""
        for call, held in self._calls.items():
            if self._world.now > held.since + poll_interval + _TICK_SLACK:
                raise Violated(f"call {call} of {held.event.worker.name} was never answered")
            return

    def at_work_on(self, answer: c.Assign) -> list[SimulatedWorker]:
        """The workers that run just what somebody is told to run, and are well."""
        return [
            worker
            for worker in self._takers.get((answer.digest, answer.queued_at), ())
            if worker.is_up
            and worker.paused_until <= self._world.now
            and not worker.is_finished
            and worker.job is not None
            and (worker.job.digest, worker.job.queued_at) == (answer.digest, answer.queued_at)
        ]

    def _later(
        self,
        delay: float,
        act: Callable[[SimulatedWorker, int], None],
        worker: SimulatedWorker,
        number: int,
    ) -> None:
        self._world.after(delay, lambda: act(worker, number))

    def _synchronize(self, worker: SimulatedWorker, life: int) -> None:
        if worker.life != life or not worker.is_up:
            return
        pause = worker.paused_until - self._world.now
        if pause > 0:
            self._later(pause, self._synchronize, worker, life)
            return
        call = worker.call = self._world.unique()
        if worker.is_finished and self._world.happens(self._world.plan.worker_faults):
            worker.fault = self._world.random.choice([0, 14, 14])
            if not worker.fault:  # it forgets what it did
                worker.job, worker.is_finished = None, False
        event = e.WorkerSynchronized(
            now=0.0, call=call, worker=worker.description, report=_report(worker)
        )
        if not self._world.happens(self._world.plan.lost_message):
            self._world.soon(lambda: self._arrive(worker, event))
        self._later(RPC_TIMEOUT, self._time_out, worker, call)

    def _arrive(self, worker: SimulatedWorker, event: e.WorkerSynchronized) -> None:
        self._calls[event.call] = _Held(worker=worker, event=event, since=self._world.now)
        self._feed(event)

    def _hang_up(self, name: str, call: int) -> None:
        self._calls.pop(call, None)
        self._answered.discard(call)
        self._feed(e.WorkerHungUp(now=0.0, worker=name, call=call))

    def _time_out(self, worker: SimulatedWorker, call: int) -> None:
        if worker.call == call:
            name = worker.description.name
            self._hang_up(name, call)
            self._synchronize(worker, worker.life)

    def _answer(self, worker: SimulatedWorker, command: c.AnswerWorker) -> None:
        if worker.call != command.call or not worker.is_up:
            return
        if worker.paused_until > self._world.now:
            return
        worker.call = 0
        if isinstance(command.answer, c.Assign):
            worker.job, worker.is_finished, worker.fault = command.answer, False, 0
            work = command.answer.digest, command.answer.queued_at
            self._takers.setdefault(work, []).append(worker)
            worker.job_number += 1
            duration = self._world.random.uniform(*self._world.plan.run_time)
            self._later(duration, self._finish_job, worker, worker.job_number)
        elif isinstance(command.answer, c.StayIdle):
            worker.job, worker.is_finished = None, False
        if worker.job is None:
            self._later(command.next_in, self._synchronize, worker, worker.life)
        else:
            delay = command.next_in * self._world.random.uniform(0.5, 1.0)
            self._later(delay, self._report_in, worker, worker.job_number)

    def _report_in(self, worker: SimulatedWorker, number: int) -> None:
        if worker.job_number == number and worker.job and not worker.is_finished:
            self._synchronize(worker, worker.life)

    def _finish_job(self, worker: SimulatedWorker, number: int) -> None:
        if worker.job_number == number and worker.job is not None:
            worker.is_finished = True
            self._synchronize(worker, worker.life)

    def _kill(self) -> None:
        worker = self._world.random.choice(self.workers)
        call, name = worker.call, worker.description.name
        worker.life += 1
        worker.job_number += 1
        worker.is_up, worker.job, worker.is_finished, worker.call = False, None, False, 0
        if self._world.random.random() < 0.5:  # else the machine is gone, its connection hangs
            self._hang_up(name, call)
        self._world.after(self._world.random.uniform(0, 60), lambda: self._revive(worker))

    def _revive(self, worker: SimulatedWorker) -> None:
        if self._world.random.random() < 0.3:  # a new one takes its place
            name = f"{worker.description.name}+"
            worker.description = replace(worker.description, name=name)
        worker.is_up = True
        self._synchronize(worker, worker.life)

    def _pause(self) -> None:
        worker = self._world.random.choice(self.workers)
        worker.paused_until = self._world.now + self._world.random.uniform(1, 90)

    def _drain(self) -> None:
        name = self._world.random.choice(self.workers).description.name
        self._drained.add(name)
        self._feed(e.WorkerDrained(now=0.0, worker=name))
        self._world.after(self._world.random.uniform(0, 60), lambda: self._resume(name))

    def _resume(self, name: str) -> None:
        self._drained.discard(name)
        self._feed(e.WorkerResumed(now=0.0, worker=name))

    def _check_assigned(self, name: str, answer: c.Assign) -> None:
        given = self._given.setdefault(name, set())
        work = answer.digest, answer.queued_at
        if name in self._drained and work not in given:
            raise Violated(f"worker {name} is drained and got {answer.digest}")
        given.add(work)


def result_of(digest: Digest, queued_at: int) -> bytes:
    """What every worker makes of one execution of an action."""
    return f"ok {digest.hash} {queued_at}".encode()


def _report(worker: SimulatedWorker) -> e.Report:
    job = worker.job
    if job is None:
        return e.Idle()
    if not worker.is_finished:
        return e.Executing(hash=job.digest.hash, size=job.digest.size)
    return e.Completed(
        hash=job.digest.hash,
        size=job.digest.size,
        response=b"" if worker.fault else result_of(job.digest, job.queued_at),
        code=worker.fault,
        queued_at=job.queued_at,
    )


def _new_worker(number: int) -> SimulatedWorker:
    pools = [("Pool", "a"), ("Pool", "b")] if number % 3 == 0 else [("Pool", "ab"[number % 2])]
    offer = Offer("", (("OSFamily", "linux"), *pools))
    return SimulatedWorker(description=WorkerDescription(name=f"w{number}", offer=offer))
