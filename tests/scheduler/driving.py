"""A running driver with repositories that can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import Unavailable
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.driver import Scheduler
from server.scheduler.ports import (
    DrainedWorkers,
    MemoryRepository,
    OperationRepository,
    Outcome,
    ResultKeeper,
)
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import (
    ExecuteSpec,
    Failure,
    Offer,
    OperationRecord,
    OperationSnapshot,
    Requirement,
    WorkerDescription,
)


class GatedRepository(MemoryRepository):
    """Writes only while the gate is open, and fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.fault: Exception = Unavailable("the database is locked")
        self.batches: list[tuple[list[OperationRecord], list[str]]] = []

    async def apply(self, put: Sequence[OperationRecord], removed: Sequence[str]) -> None:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise self.fault
        self.batches.append((list(put), list(removed)))
        await super().apply(put, removed)


async def give_out(outcome: Outcome) -> bytes | Failure:
    """A ResultKeeper that believes everything."""
    return outcome.response


@asynccontextmanager
async def running(
    *,
    repository: OperationRepository | None = None,
    complete: ResultKeeper = give_out,
    settings: SchedulerSettings | None = None,
    heartbeat: float = 60.0,
    patience: float = 10.0,
    drained: DrainedWorkers | None = None,
) -> AsyncIterator[Scheduler]:
    """A scheduler from restore to close."""
    scheduler = Scheduler(
        repository=repository or MemoryRepository(),
        complete=complete,
        settings=settings,
        heartbeat=heartbeat,
        patience=patience,
        drained=drained,
    )
    await scheduler.restore()
    task = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        await scheduler.close()
        await task


def spec_of(action: str = "a", *, invocation: str = "", do_not_cache: bool = False) -> ExecuteSpec:
    """A request for an action that tests call by a letter."""
    return ExecuteSpec(
        requirement=Requirement("", ()),
        packed_digest=Digest.of(action.encode(), DigestFunction.SHA256).packed(),
        action=action.encode(),
        do_not_cache=do_not_cache,
        invocation=invocation,
    )


@dataclass(kw_only=True)
class Worker:
    """Synchronises as told."""

    scheduler: Scheduler
    name: str = "w1"

    async def report(self, report: e.Report, *, prefers_idle: bool = False) -> c.Answer:
        """One synchronisation."""
        description = WorkerDescription(name=self.name, offer=Offer("", ()))
        answer = await self.scheduler.synchronize(description, report, prefers_idle=prefers_idle)
        return answer.answer

    async def take(self) -> c.Assign:
        """Wait for work."""
        while True:
            answer = await self.report(e.Idle())
            if isinstance(answer, c.Assign):
                return answer

    async def running(self, work: c.Assign) -> c.Answer:
        """Say that the work goes on."""
        return await self.report(e.Executing(hash=work.digest.hash, size=work.digest.size))

    async def complete(
        self, work: c.Assign, response: bytes = b"result", *, prefers_idle: bool = True
    ) -> c.Answer:
        """Say that the work is done."""
        report = e.Completed(
            hash=work.digest.hash,
            size=work.digest.size,
            response=response,
            code=0,
            queued_at=work.queued_at,
        )
        return await self.report(report, prefers_idle=prefers_idle)


async def last(scheduler: Scheduler, name: str) -> OperationSnapshot:
    """Watch an operation to its end."""
    return [snapshot async for snapshot in scheduler.watch(name)][-1]


async def eventually(condition: Callable[[], bool], deadline: float = 5.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.005)
