"""kill -9 of a scheduler at random moments: no accepted operation is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from rounds import chance as seeded_chance
from rounds import rounds

from remote_apis.errors import NotFound
from server.db.engine import Database
from server.db.operations import SqlOperationRepository
from server.scheduler.driver import Scheduler
from server.scheduler.settings import SchedulerSettings
from tests.scheduler.driving import Worker, give_out, spec_of

PATIENT = SchedulerSettings(retention=1e6, unattended_grace=1e6, no_worker_grace=1e6)


def run_scheduler(path: Path, pipe: Connection, life: int, known: dict[str, bytes | None]) -> None:
    """A process: report what is lost, then accept and run operations until killed."""
    asyncio.run(_run_scheduler(path, pipe, life, known))


async def _run_scheduler(
    path: Path, pipe: Connection, life: int, known: dict[str, bytes | None]
) -> None:
    database = await Database.open(path)
    repository = SqlOperationRepository(database)
    await repository.prepare()
    scheduler = Scheduler(repository=repository, complete=give_out, settings=PATIENT)
    await scheduler.restore()
    for name, response in known.items():
        try:
            snapshot = scheduler.get(name)
        except NotFound:
            pipe.send(("lost", name, None))
            continue
        if response is not None and snapshot.response != response:
            pipe.send(("changed", name, snapshot.response))
    pipe.send(("ready", "", None))
    async with asyncio.TaskGroup() as group:
        group.create_task(scheduler.run())
        for number in range(2):
            group.create_task(_work(scheduler, f"w{number}"))
        for number in range(3):
            group.create_task(_ask(scheduler, pipe, f"{life}-{number}"))


async def _work(scheduler: Scheduler, name: str) -> None:
    worker = Worker(scheduler=scheduler, name=name)
    while True:
        work = await worker.take()
        await asyncio.sleep(random.uniform(0, 0.01))
        await worker.complete(work, b"of " + work.action)


async def _ask(scheduler: Scheduler, pipe: Connection, client: str) -> None:
    for number in range(100_000):
        name = await scheduler.execute(spec_of(f"{client}-{number}"))
        pipe.send(("accepted", name, None))
        async for snapshot in scheduler.watch(name):
            if snapshot.is_done:
                pipe.send(("done", name, snapshot.response))


def _kill_often(path: Path, times: int) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tests.scheduler.driving", "server.db.engine"])
    chance = seeded_chance()
    known: dict[str, bytes | None] = {}
    for life in range(times):
        ours, theirs = context.Pipe()
        process = context.Process(target=run_scheduler, args=(path, theirs, life, known))
        process.start()
        theirs.close()
        assert process.pid is not None
        _listen_until_ready(ours, known)
        process.join(chance.uniform(0, 0.1))
        assert process.exitcode is None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        _listen_to_the_end(ours, known)
    return len(known)


def _listen_until_ready(pipe: Connection, known: dict[str, bytes | None]) -> None:
    while True:
        assert pipe.poll(30), "the scheduler does not come up"
        what, name, response = pipe.recv()
        if what == "ready":
            return
        raise AssertionError(f"operation {name} is {what}: {known[name]!r} was {response!r}")


def _listen_to_the_end(pipe: Connection, known: dict[str, bytes | None]) -> None:
    while True:
        try:
            what, name, response = pipe.recv()
        except (EOFError, OSError):
            return
        assert what in ("accepted", "done")
        known[name] = response


@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_a_killed_scheduler_loses_nothing(tmp_path: Path) -> None:
    assert _kill_often(tmp_path / "queue.db", rounds(20)) > 0
