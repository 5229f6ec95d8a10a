"""The scheduler as the rest of the server sees it: the core, with a clock, a journal and clients.

This is the only asynchronous part. Every call turns into one event; the core's commands are
carried out before anything else gets to run.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from remote_apis.errors import (
    DistbuildError,
    FailedPrecondition,
    NotFound,
    OutOfSpace,
    Unavailable,
)
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler import retries
from server.scheduler.checking import verdict_on
from server.scheduler.core import Core
from server.scheduler.deduplication import sharing_key
from server.scheduler.journal import Journal
from server.scheduler.naming import Naming, random_id
from server.scheduler.ports import (
    Clock,
    DrainedWorkers,
    MemoryDrainedWorkers,
    OperationRepository,
    ResultKeeper,
    SystemClock,
)
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import (
    ExecuteSpec,
    Failure,
    Offer,
    OperationSnapshot,
    Requirement,
    WorkerDescription,
    WorkerSnapshot,
)
from server.scheduler.watching import Watchers

_LOG = logging.getLogger(__name__)
_REFUSALS: Mapping[int, type[DistbuildError]] = {
    retries.FAILED_PRECONDITION: FailedPrecondition,
    retries.RESOURCE_EXHAUSTED: OutOfSpace,
}


class Scheduler:
    """Accepts operations, hands them to workers and tells clients what becomes of them.

    Life: `restore()`, then `run()` in a task of its own until `close()`. Must be made within the
    event loop that it is used in.
    """

    def __init__(
        self,
        *,
        repository: OperationRepository,
        complete: ResultKeeper,
        drained: DrainedWorkers | None = None,
        settings: SchedulerSettings | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] = random_id,
        heartbeat: float = 60.0,
        patience: float = 10.0,
    ) -> None:
        """`drained`: where it is kept which workers are drained; by default in memory alone.
        `heartbeat`: a watched operation is shown again after so many seconds without a change,
        so that no proxy takes the stream for dead. `patience`: for how many seconds a repository
        that cannot be written is tried again.
        """
        self._clock = clock or SystemClock()
        self._repository = repository
        self._drained_workers = drained or MemoryDrainedWorkers()
        self._complete = complete
        self._naming = Naming(self._clock, new_id)
        self._heartbeat = heartbeat
        self._core = Core(settings or SchedulerSettings(), now=self._clock.monotonic())
        self._journal = Journal(repository, patience=patience)
        self._watchers = Watchers()
        self._calls: dict[int, asyncio.Future[c.AnswerWorker]] = {}
        self._on_assign: dict[int, Callable[[c.Assign], None]] = {}
        self._call_numbers = itertools.count(1)
        self._persisting: dict[str, asyncio.Future[None]] = {}
        self._refusals: dict[str, Failure] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_draining = False
        self._is_closed = False
        self._drained = asyncio.Event()
        self._performers = self._by_command()

    def _by_command(self) -> Mapping[type[c.Command], Callable[[Any], None]]:
        return {
            c.AnswerWorker: self._answer_worker,
            c.CheckResult: self._check_result,
            c.RefuseOperation: self._refuse_operation,
            c.PublishOperation: self._publish_operation,
            c.PersistOperation: self._persist_operation,
            c.FinishOperation: self._finish_operation,
            c.ForgetOperation: self._forget_operation,
        }

    # Life

    async def restore(self) -> int:
        """Take up drained workers and operations from before a restart; how many operations."""
        for name in await self._drained_workers.load():
            self._feed(e.WorkerDrained(now=self._clock.monotonic(), worker=name))
        records = await self._repository.load()
        now = self._clock.monotonic()
        for record in records:
            self._naming.seen(record.queued_at)
            # its time begins anew: how long the scheduler was down, a wall clock may not know
            self._feed(e.OperationRestored(now=now, record=record))
        return len(records)

    async def run(self) -> None:
        """Keep the journal until `close`."""
        await self._journal.run()

    async def drain(self) -> None:
        """Accept no new operations, and return when all accepted ones are finished."""
        self._is_draining = True
        if self._core.unfinished:
            await self._drained.wait()

    async def close(self) -> None:
        """Stop: workers and clients are sent away, and find everything again after a restart."""
        self._is_draining = self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for call, future in list(self._calls.items()):
            if not future.done():
                future.set_result(c.AnswerWorker(call=call, answer=c.StayIdle(), next_in=1.0))
        self._watchers.close()
        for check in list(self._checks):
            check.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        self._journal.close()

    # Clients

    async def execute(self, spec: ExecuteSpec) -> str:
        """Accept an action to be run; the operation's name, which survives a restart.

        Raises FailedPrecondition when no worker offers what the action needs, OutOfSpace when too
        much is under way, Unavailable when the scheduler takes nothing on.
        """
        if self._is_draining:
            raise Unavailable("the scheduler is shutting down")
        name = self._naming.name(spec.requirement.instance)
        stamp = self._naming.stamp()
        now = self._clock.monotonic()
        self._feed(e.ExecuteRequested(now=now, operation=name, spec=spec, queued_at=stamp))
        refusal = self._refusals.pop(name, None)
        if refusal is not None:
            raise _REFUSALS[refusal.code](refusal.message)
        try:
            await self._persisting.pop(name)
        except (Unavailable, OutOfSpace):
            self._feed(e.OperationCancelled(now=self._clock.monotonic(), operation=name))
            raise
        return name

    def found(self, spec: ExecuteSpec, response: bytes) -> OperationSnapshot:
        """A finished operation for a response that was in the ActionCache."""
        name = self._naming.name(spec.requirement.instance)
        now, stamp = self._clock.monotonic(), self._naming.stamp()
        self._feed(
            e.ResultFound(now=now, operation=name, spec=spec, queued_at=stamp, response=response)
        )
        return self.get(name)

    async def watch(self, name: str) -> AsyncGenerator[OperationSnapshot, None]:
        """The operation now and after every change, until it is done.

        Changes that follow each other closely may be seen as one. Raises NotFound, and Unavailable
        when the scheduler closes. Close the iterator (`contextlib.aclosing`) to stop waiting.
        """
        snapshot: OperationSnapshot | None = self.get(name)
        watcher = self._watchers.add(name)
        self._feed(e.WaiterAttached(now=self._clock.monotonic(), operation=name))
        try:
            while snapshot is not None:
                yield snapshot
                if snapshot.is_done:
                    return
                snapshot = await watcher.next(self._heartbeat) or self._core.snapshot(name)
        finally:
            self._watchers.discard(name, watcher)
            self._feed(e.WaiterDropped(now=self._clock.monotonic(), operation=name))

    def get(self, name: str) -> OperationSnapshot:
        """The operation now. Raises NotFound."""
        snapshot = self._core.snapshot(name)
        if snapshot is None:
            raise NotFound(f"there is no operation {name!r}, or it finished too long ago")
        return snapshot

    def list_operations(
        self,
        *,
        instance: str | None = None,
        after: int = 0,
        limit: int = 100,
        done: bool | None = None,
    ) -> list[OperationSnapshot]:
        """Operations numbered above `after`, in the order of their requests.

        `instance` and `done`, where given, keep only those of that instance and in that state.
        """
        matching = (
            snapshot
            for snapshot in self._core.snapshots(after=after)
            if (instance is None or snapshot.instance == instance)
            and (done is None or snapshot.is_done == done)
        )
        return list(itertools.islice(matching, limit))

    def unfinished_operations(self) -> list[OperationSnapshot]:
        """All operations that are still to be answered."""
        return [snapshot for snapshot in self._core.snapshots() if not snapshot.is_done]

    def cancel(self, name: str) -> None:
        """End an operation with CANCELLED, unless it is done. Raises NotFound."""
        self.get(name)
        self._feed(e.OperationCancelled(now=self._clock.monotonic(), operation=name))

    def delete(self, name: str) -> None:
        """Forget a finished operation. Raises NotFound, FailedPrecondition while it runs."""
        if not self.get(name).is_done:
            raise FailedPrecondition(f"operation {name!r} is not done; cancel it first")
        self._feed(e.OperationDeleted(now=self._clock.monotonic(), operation=name))

    def is_in_flight(self, spec: ExecuteSpec) -> bool:
        """Whether a request would share the execution of an equal one."""
        key = sharing_key(spec)
        return key is not None and self._core.is_in_flight(key)

    # Workers

    async def synchronize(
        self,
        worker: WorkerDescription,
        report: e.Report,
        *,
        prefers_idle: bool = False,
        on_assign: Callable[[c.Assign], None] | None = None,
    ) -> c.AnswerWorker:
        """Take a worker's report in; returns what it should do.

        Held open while there is nothing to do, up to the poll interval. `on_assign` is called if
        that is an action, before any client can see that it runs.
        """
        call = next(self._call_numbers)
        if on_assign is not None:
            self._on_assign[call] = on_assign
        future: asyncio.Future[c.AnswerWorker] = asyncio.get_running_loop().create_future()
        self._calls[call] = future
        try:
            self._feed(
                e.WorkerSynchronized(
                    now=self._clock.monotonic(),
                    call=call,
                    worker=worker,
                    report=report,
                    prefers_idle=prefers_idle,
                )
            )
            return await future
        except asyncio.CancelledError:
            hung_up = e.WorkerHungUp(now=self._clock.monotonic(), worker=worker.name, call=call)
            self._feed(hung_up)
            raise
        finally:
            del self._calls[call]
            self._on_assign.pop(call, None)

    def queued(self) -> dict[Requirement, int]:
        """How many executions wait for a worker, by what they ask of it."""
        return self._core.queued()

    @property
    def unfinished(self) -> int:
        """How many operations are under way."""
        return self._core.unfinished

    def workers(self) -> list[WorkerSnapshot]:
        """All workers that are connected."""
        return self._core.workers()

    def offers(self) -> list[Offer]:
        """What the workers offer that are or were lately connected."""
        return self._core.offers()

    def drained_workers(self) -> frozenset[str]:
        """The names of the drained workers, connected or not."""
        return self._core.drained()

    async def drain_workers(self, names: Collection[str]) -> None:
        """Give workers nothing more until `resume_workers`; what they run they finish.

        Holds across restarts. Raises Unavailable or OutOfSpace, and has done nothing then.
        """
        await self._drained_workers.add(names)
        for name in names:
            self._feed(e.WorkerDrained(now=self._clock.monotonic(), worker=name))

    async def resume_workers(self, names: Collection[str]) -> None:
        """Undo `drain_workers`. Raises the same."""
        await self._drained_workers.remove(names)
        for name in names:
            self._feed(e.WorkerResumed(now=self._clock.monotonic(), worker=name))

    # Events in, commands out

    def _feed(self, event: e.Event) -> None:
        for command in self._core.handle(event):
            self._performers[type(command)](command)
        self._set_timer()
        if self._is_draining and not self._core.unfinished:
            self._drained.set()

    def _set_timer(self) -> None:
        """Have a Tick at the next deadline; one that comes too early does no harm."""
        deadline = self._core.next_deadline()
        if deadline is None or self._is_closed:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        self._feed(e.Tick(now=now, late=max(0.0, now - self._timer_at)))

    def _answer_worker(self, command: c.AnswerWorker) -> None:
        future = self._calls.get(command.call)
        if future is not None and not future.done():
            on_assign = self._on_assign.get(command.call)
            if on_assign is not None and isinstance(command.answer, c.Assign):
                on_assign(command.answer)
            future.set_result(command)

    def _refuse_operation(self, command: c.RefuseOperation) -> None:
        self._refusals[command.operation] = command.failure

    def _publish_operation(self, command: c.PublishOperation) -> None:
        if self._watchers.are_there(command.operation):
            snapshot = self._core.snapshot(command.operation)
            if snapshot is not None:
                self._watchers.tell(snapshot)

    def _persist_operation(self, command: c.PersistOperation) -> None:
        if command.urgent:
            self._persisting[command.record.name] = self._journal.put(command.record)
        else:
            self._journal.put_lazily(command.record)

    def _finish_operation(self, command: c.FinishOperation) -> None:
        record = replace(command.record, finished_at=self._clock.wall())

        def recorded(future: asyncio.Future[None]) -> None:
            if future.cancelled():
                return
            if future.exception() is not None:
                # The client gets its answer all the same; after a restart the action may run again.
                _LOG.error("operation %s finished, and that could not be kept", record.name)
            now = self._clock.monotonic()
            self._feed(e.OperationRecorded(now=now, operation=record.name))

        self._journal.put(record).add_done_callback(recorded)

    def _forget_operation(self, command: c.ForgetOperation) -> None:
        self._journal.remove(command.operation)

    def _check_result(self, command: c.CheckResult) -> None:
        check = asyncio.get_running_loop().create_task(self._check(command))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check(self, command: c.CheckResult) -> None:
        verdict = await verdict_on(command, self._complete)
        now, number, attempt = self._clock.monotonic(), command.execution, command.attempt
        self._feed(e.ResultChecked(now=now, execution=number, attempt=attempt, verdict=verdict))
