"""One suite for every DrainedWorkers, and how databases from before come to have the table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.db.drained_workers import SqlDrainedWorkers
from server.db.engine import Database
from server.scheduler.ports import DrainedWorkers, MemoryDrainedWorkers


@pytest.fixture(params=["memory", "sqlite"])
async def drained(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DrainedWorkers]:
    if request.param == "memory":
        yield MemoryDrainedWorkers()
        return
    database = await Database.open(tmp_path / "db")
    yield SqlDrainedWorkers(database)
    await database.close()


async def test_what_is_added_is_there_until_it_is_removed(drained: DrainedWorkers) -> None:
    assert await drained.load() == frozenset()
    await drained.add(["a", "größe=1,worker=b", "c"])
    await drained.add(["c", "d", "d"])
    assert await drained.load() == {"a", "größe=1,worker=b", "c", "d"}
    await drained.remove(["a", "c", "never there"])
    assert await drained.load() == {"größe=1,worker=b", "d"}
    await drained.add([])
    await drained.remove([])
    assert await drained.load() == {"größe=1,worker=b", "d"}


async def test_the_last_of_many_calls_counts(drained: DrainedWorkers) -> None:
    await asyncio.gather(
        *(call(["w1"]) for _ in range(20) for call in (drained.add, drained.remove)),
        drained.add(["w1"]),
    )
    assert await drained.load() == {"w1"}


async def test_names_survive_the_process(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db")
    await SqlDrainedWorkers(database).add(["a"])
    await database.close()
    database = await Database.open(tmp_path / "db")
    assert await SqlDrainedWorkers(database).load() == {"a"}
    await database.close()


async def test_a_database_from_before_gets_the_table(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db")

    def undo(connection: sa.Connection) -> None:
        connection.execute(sa.text("drop table drained_workers"))
        connection.execute(sa.text("update schema_version set version = 1"))

    await database.write(undo)
    await database.close()
    database = await Database.open(tmp_path / "db")
    assert await SqlDrainedWorkers(database).load() == frozenset()
    await database.close()
