"""The driver: durability, watching, long polls, restarts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from remote_apis.errors import FailedPrecondition, NotFound, OutOfSpace, Unavailable
from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler.ports import MemoryDrainedWorkers, MemoryRepository, Outcome
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import Failure, Stage
from tests.scheduler.driving import (
    GatedRepository,
    Worker,
    eventually,
    give_out,
    last,
    running,
    spec_of,
)


async def test_from_request_to_result() -> None:
    async with running() as scheduler:
        name = await scheduler.execute(spec_of())
        watching = asyncio.create_task(last(scheduler, name))
        worker = Worker(scheduler=scheduler)
        work = await worker.take()
        assert work.action == b"a"
        assert isinstance(await worker.running(work), c.KeepGoing)
        await worker.complete(work)
        assert (await watching).response == b"result"
        assert scheduler.get(name).worker == "w1"


async def test_watching_shows_the_state_at_once_and_every_later_one() -> None:
    async with running() as scheduler:
        name = await scheduler.execute(spec_of())
        worker = Worker(scheduler=scheduler)
        stages = []
        async with aclosing(scheduler.watch(name)) as snapshots:
            stages.append((await anext(snapshots)).stage)
            work = await worker.take()
            stages.append((await anext(snapshots)).stage)
            await worker.complete(work)
            stages += [snapshot.stage async for snapshot in snapshots]
        assert stages == [Stage.QUEUED, Stage.EXECUTING, Stage.COMPLETED]
        assert (await last(scheduler, name)).is_done


async def test_a_short_action_is_seen_queued_and_done() -> None:
    async with running() as scheduler:
        name = await scheduler.execute(spec_of())
        worker = Worker(scheduler=scheduler)
        async with aclosing(scheduler.watch(name)) as snapshots:
            stages = [(await anext(snapshots)).stage]
            await worker.complete(await worker.take())
            stages += [snapshot.stage async for snapshot in snapshots]
        assert stages == [Stage.QUEUED, Stage.COMPLETED]


async def test_a_heartbeat_repeats_the_state() -> None:
    async with running(heartbeat=0.02) as scheduler:
        name = await scheduler.execute(spec_of())
        async with aclosing(scheduler.watch(name)) as snapshots:
            assert [(await anext(snapshots)).stage for _ in range(3)] == [Stage.QUEUED] * 3


async def test_a_name_is_given_out_once_it_is_durable() -> None:
    repository = GatedRepository()
    async with running(repository=repository) as scheduler:
        repository.gate.clear()
        asked = asyncio.create_task(scheduler.execute(spec_of()))
        work = await Worker(scheduler=scheduler).take()  # work need not wait for the disk
        assert work.action == b"a"
        assert not asked.done()
        repository.gate.set()
        name = await asked
        assert [record.name for record in await repository.load()] == [name]


async def test_a_result_is_shown_once_it_is_durable() -> None:
    repository = GatedRepository()
    async with running(repository=repository) as scheduler:
        name = await scheduler.execute(spec_of())
        worker = Worker(scheduler=scheduler)
        work = await worker.take()
        repository.gate.clear()
        await worker.complete(work)
        await asyncio.sleep(0.05)
        assert not scheduler.get(name).is_done
        repository.gate.set()
        assert (await last(scheduler, name)).response == b"result"


async def test_a_locked_database_is_tried_again() -> None:
    repository = GatedRepository()
    repository.failures = 2
    async with running(repository=repository) as scheduler:
        name = await scheduler.execute(spec_of())
        assert scheduler.get(name).stage is Stage.QUEUED


async def test_a_dead_database_refuses_operations_and_leaves_none_behind() -> None:
    repository = GatedRepository()
    repository.failures = 1000
    async with running(repository=repository, patience=0.1) as scheduler:
        with pytest.raises(Unavailable, match="locked"):
            await scheduler.execute(spec_of())
        await eventually(lambda: all(s.is_done for s in scheduler.list_operations()))
        repository.failures = 0


async def test_a_result_is_given_out_although_it_cannot_be_kept() -> None:
    repository = GatedRepository()
    async with running(repository=repository, patience=0.1) as scheduler:
        name = await scheduler.execute(spec_of())
        worker = Worker(scheduler=scheduler)
        work = await worker.take()
        repository.failures = 1000
        await worker.complete(work)
        assert (await last(scheduler, name)).response == b"result"
        repository.failures = 0


async def test_a_restart_keeps_operations_and_workers_go_on() -> None:
    repository = MemoryRepository()
    async with running(repository=repository) as scheduler:
        leased = await scheduler.execute(spec_of("a"))
        work = await Worker(scheduler=scheduler).take()
        queued = await scheduler.execute(spec_of("b"))
    async with running(repository=repository) as scheduler:
        assert scheduler.get(leased).stage is Stage.EXECUTING
        worker = Worker(scheduler=scheduler)
        assert isinstance(await worker.running(work), c.KeepGoing)
        assert scheduler.get(leased).stage is Stage.EXECUTING
        await worker.complete(work)
        assert (await last(scheduler, leased)).response == b"result"
        work = await worker.take()
        await worker.complete(work, b"other")
        assert (await last(scheduler, queued)).response == b"other"
    async with running(repository=repository) as scheduler:
        assert scheduler.get(leased).response == b"result"
        assert scheduler.get(queued).response == b"other"


async def test_closing_sends_workers_and_clients_away() -> None:
    async with running() as scheduler:
        name = await scheduler.execute(spec_of(invocation="x"))
        watching = asyncio.create_task(last(scheduler, name))
        work = await Worker(scheduler=scheduler).take()
        assert work
        polling = asyncio.create_task(Worker(scheduler=scheduler, name="w2").report(e.Idle()))
        await eventually(lambda: len(scheduler.workers()) == 2)
    assert isinstance(await polling, c.StayIdle)
    with pytest.raises(Unavailable):
        await watching
    with pytest.raises(Unavailable):
        await scheduler.execute(spec_of())


async def test_draining_waits_for_what_was_accepted() -> None:
    async with running() as scheduler:
        name = await scheduler.execute(spec_of())
        draining = asyncio.create_task(scheduler.drain())
        await asyncio.sleep(0.02)
        with pytest.raises(Unavailable, match="shutting down"):
            await scheduler.execute(spec_of("b"))
        worker = Worker(scheduler=scheduler)
        work = await worker.take()
        assert not draining.done()
        await worker.complete(work)
        await draining
        assert scheduler.get(name).is_done


async def test_a_worker_that_hangs_up_loses_no_action() -> None:
    async with running() as scheduler:
        polling = asyncio.create_task(Worker(scheduler=scheduler).report(e.Idle()))
        await eventually(lambda: len(scheduler.workers()) == 1)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        await scheduler.execute(spec_of())
        assert (await Worker(scheduler=scheduler, name="w2").take()).action == b"a"


async def test_time_passes_by_itself() -> None:
    settings = SchedulerSettings(
        poll_interval=0.05, worker_lost_after=0.1, no_worker_grace=0.05, retention=0.05
    )
    async with running(settings=settings) as scheduler:
        assert isinstance(await Worker(scheduler=scheduler).report(e.Idle()), c.StayIdle)
        await eventually(lambda: not scheduler.workers())
        name = await scheduler.execute(spec_of())
        work = await Worker(scheduler=scheduler).take()
        await Worker(scheduler=scheduler).complete(work)
        await eventually(lambda: not scheduler.list_operations())
        with pytest.raises(NotFound):
            scheduler.get(name)


async def test_an_unmatched_action_is_refused_before_it_gets_a_name() -> None:
    async with running(settings=SchedulerSettings(no_worker_grace=0.0)) as scheduler:
        polling = asyncio.create_task(Worker(scheduler=scheduler).report(e.Idle()))
        await eventually(lambda: len(scheduler.workers()) == 1)
        spec = spec_of()
        odd = type(spec)(
            requirement=type(spec.requirement)("", (("Pool", "none"),)),
            packed_digest=spec.packed_digest,
            action=spec.action,
        )
        with pytest.raises(FailedPrecondition, match="'Pool'"):
            await scheduler.execute(odd)
        assert not scheduler.list_operations()
        polling.cancel()


@pytest.mark.parametrize("fault", [OutOfSpace("full"), RuntimeError("a bug")])
async def test_a_fault_in_the_check_of_a_result_leads_to_another_attempt(fault: Exception) -> None:
    faults = [fault]

    async def complete(outcome: Outcome) -> bytes | Failure:
        if faults:
            raise faults.pop()
        return await give_out(outcome)

    async with running(complete=complete) as scheduler:
        name = await scheduler.execute(spec_of())
        worker = Worker(scheduler=scheduler)
        for _ in range(2):
            await worker.complete(await worker.take())
        snapshot = await last(scheduler, name)
        assert (snapshot.response, snapshot.attempts) == (b"result", 2)


async def test_cancel_delete_and_list() -> None:
    async with running() as scheduler:
        names = [await scheduler.execute(spec_of(letter)) for letter in "abc"]
        assert [s.name for s in scheduler.list_operations()] == names
        second = scheduler.get(names[1])
        assert [s.name for s in scheduler.list_operations(after=second.sequence)] == names[2:]
        assert [s.name for s in scheduler.list_operations(limit=2)] == names[:2]
        with pytest.raises(FailedPrecondition):
            scheduler.delete(names[0])
        scheduler.cancel(names[0])
        assert (await last(scheduler, names[0])).is_done
        assert [s.name for s in scheduler.list_operations(done=True)] == names[:1]
        scheduler.delete(names[0])
        for act in (scheduler.get, scheduler.cancel, scheduler.delete):
            with pytest.raises(NotFound):
                act(names[0])


async def test_cached_results_become_finished_operations() -> None:
    async with running() as scheduler:
        snapshot = scheduler.found(spec_of(), b"cached")
        assert snapshot.is_done
        assert (await last(scheduler, snapshot.name)).response == b"cached"


async def test_draining_a_worker() -> None:
    async with running() as scheduler:
        polling = asyncio.create_task(Worker(scheduler=scheduler).report(e.Idle()))
        await eventually(lambda: len(scheduler.workers()) == 1)
        await scheduler.drain_workers(["w1"])
        name = await scheduler.execute(spec_of())
        (worker,) = scheduler.workers()
        assert worker.is_drained
        assert scheduler.get(name).stage is Stage.QUEUED
        assert scheduler.drained_workers() == {"w1"}
        await scheduler.resume_workers(["w1"])
        assert isinstance(await polling, c.Assign)
        assert not scheduler.drained_workers()


async def test_a_drained_worker_stays_so_through_a_restart() -> None:
    repository, drained = MemoryRepository(), MemoryDrainedWorkers()
    async with running(repository=repository, drained=drained) as scheduler:
        name = await scheduler.execute(spec_of())
        worker = Worker(scheduler=scheduler)
        work = await worker.take()
        await scheduler.drain_workers(["w1"])
    async with running(repository=repository, drained=drained) as scheduler:
        assert scheduler.drained_workers() == {"w1"}
        assert not scheduler.workers()
        worker = Worker(scheduler=scheduler)
        assert isinstance(await worker.running(work), c.KeepGoing)
        (snapshot,) = scheduler.workers()
        assert (snapshot.operations, snapshot.is_drained) == ((name,), True)
        assert snapshot.leased_at == snapshot.last_seen
        assert isinstance(await worker.complete(work), c.StayIdle)
        assert (await last(scheduler, name)).response == b"result"
        other = await scheduler.execute(spec_of("b"))
        polling = asyncio.create_task(worker.report(e.Idle()))
        await eventually(lambda: scheduler.workers()[0].is_waiting)
        assert scheduler.get(other).stage is Stage.QUEUED
        polling.cancel()
