"""The journal: batches, laziness, order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from remote_apis.errors import Unavailable
from server.scheduler.journal import Journal
from server.scheduler.values import OperationRecord
from tests.scheduler.driving import GatedRepository, eventually, spec_of


def record(name: str, *, attempts: int = 0) -> OperationRecord:
    return OperationRecord(name=name, sequence=1, spec=spec_of(), queued_at=1, attempts=attempts)


@asynccontextmanager
async def open_journal(
    repository: GatedRepository, *, lazy_delay: float = 0.05, patience: float = 5.0
) -> AsyncIterator[Journal]:
    journal = Journal(repository, lazy_delay=lazy_delay, patience=patience)
    task = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        journal.close()
        await task


async def test_what_comes_up_during_a_write_goes_into_one_batch() -> None:
    repository = GatedRepository()
    async with open_journal(repository) as journal:
        repository.gate.clear()
        first = journal.put(record("a"))
        await asyncio.sleep(0.01)
        rest = [journal.put(record(name)) for name in "bcd"]
        repository.gate.set()
        await asyncio.gather(first, *rest)
        names = [[each.name for each in put] for put, _ in repository.batches]
        assert names == [["a"], ["b", "c", "d"]]


async def test_lazy_records_are_written_in_time() -> None:
    repository = GatedRepository()
    async with open_journal(repository) as journal:
        journal.put_lazily(record("a", attempts=1))
        await asyncio.sleep(0.01)
        assert not repository.batches
        await eventually(lambda: bool(repository.batches))
        assert [each.attempts for each in await repository.load()] == [1]


async def test_an_urgent_record_overtakes_a_lazy_one() -> None:
    repository = GatedRepository()
    async with open_journal(repository, lazy_delay=30) as journal:
        journal.put_lazily(record("a", attempts=1))
        await journal.put(record("a", attempts=2))
    assert [each.attempts for each in await repository.load()] == [2]
    assert sum(len(put) for put, _ in repository.batches) == 1


async def test_a_lazy_change_of_what_is_about_to_be_written_joins_it() -> None:
    repository = GatedRepository()
    async with open_journal(repository, lazy_delay=30) as journal:
        done = journal.put(record("a"))
        journal.put_lazily(record("a", attempts=1))
        await done
        assert [each.attempts for each in await repository.load()] == [1]


async def test_a_removal_takes_back_what_was_not_yet_written() -> None:
    repository = GatedRepository()
    async with open_journal(repository, lazy_delay=30) as journal:
        await journal.put(record("a"))
        journal.put_lazily(record("a", attempts=1))
        journal.remove("a")
    assert await repository.load() == []


async def test_closing_writes_everything() -> None:
    repository = GatedRepository()
    async with open_journal(repository, lazy_delay=30) as journal:
        urgent = journal.put(record("a"))
        journal.put_lazily(record("b"))
    assert urgent.done()
    assert {each.name for each in await repository.load()} == {"a", "b"}


async def test_a_failing_repository_is_tried_again_and_then_reported() -> None:
    repository = GatedRepository()
    async with open_journal(repository, patience=0.2) as journal:
        repository.failures = 2
        await journal.put(record("a"))
        repository.failures = 1000
        with pytest.raises(Unavailable):
            await journal.put(record("b"))
        repository.failures = 0
        await journal.put(replace(record("c"), sequence=2))
    assert [each.name for each in await repository.load()] == ["a", "c"]


async def test_a_record_that_cannot_be_written_at_all_does_not_stop_the_others() -> None:
    repository = GatedRepository()
    async with open_journal(repository) as journal:
        repository.failures, repository.fault = 1, TypeError("not a record")
        with pytest.raises(Unavailable, match="not a record"):
            await journal.put(record("a"))
        await journal.put(record("b"))
    assert [each.name for each in await repository.load()] == ["b"]
