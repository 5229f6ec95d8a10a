"""One suite for every OperationRepository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from server.db.engine import Database
from server.db.operations import SqlOperationRepository
from server.scheduler.ports import MemoryRepository, OperationRepository
from server.scheduler.values import ExecuteSpec, OperationRecord, Requirement, Wishes


def record(name: str, sequence: int = 1) -> OperationRecord:
    return OperationRecord(
        name=name,
        sequence=sequence,
        spec=ExecuteSpec(
            requirement=Requirement("team/a", (("OSFamily", "linux"), ("Pool", "größe"))),
            packed_digest=Digest.of(name.encode(), DigestFunction.BLAKE3).packed(),
            action=b"\x00\xff action",
            do_not_cache=True,
            priority=-7,
            invocation="build",
            label="CppCompile //a:b",
            wishes=Wishes(stdout=True, output_files=("a", "b")),
        ),
        queued_at=1_800_000_000_000_000_000,
        attempts=2,
        worker="w1",
    )


@pytest.fixture(params=["memory", "sqlite"])
async def repository(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[OperationRepository]:
    if request.param == "memory":
        yield MemoryRepository()
        return
    database = await Database.open(tmp_path / "queue.db")
    sql = SqlOperationRepository(database)
    await sql.prepare()
    await sql.prepare()  # again does no harm
    yield sql
    await database.close()


async def test_what_is_put_comes_back_in_order(repository: OperationRepository) -> None:
    records = [record("c", 3), record("a", 1), replace(record("b", 2), response=b"")]
    await repository.apply(records, [])
    assert await repository.load() == sorted(records, key=lambda each: each.sequence)


async def test_putting_again_replaces(repository: OperationRepository) -> None:
    first = record("a")
    await repository.apply([first], [])
    later = replace(
        first,
        spec=replace(first.spec, action=b""),
        attempts=3,
        worker="w2",
        response=b"done",
        finished_at=5,
    )
    await repository.apply([later], [])
    assert await repository.load() == [later]


async def test_removing(repository: OperationRepository) -> None:
    await repository.apply([record("a", 1), record("b", 2)], [])
    await repository.apply([record("c", 3)], ["a", "never there"])
    assert [each.name for each in await repository.load()] == ["b", "c"]
    await repository.apply([], [])


async def test_records_survive_the_process(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "queue.db")
    repository = SqlOperationRepository(database)
    await repository.prepare()
    await repository.apply([record("a")], [])
    await database.close()
    database = await Database.open(tmp_path / "queue.db")
    try:
        repository = SqlOperationRepository(database)
        await repository.prepare()
        assert await repository.load() == [record("a")]
    finally:
        await database.close()
