"""The database: migrations, grouped writes, errors."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, column, text

from remote_apis.errors import FailedPrecondition, Unavailable
from server.db.engine import Database
from server.db.statements import Prepared


def count(connection: Connection) -> int:
    return int(connection.execute(text("select count(*) from t")).scalar_one())


async def a_database(path: Path) -> Database:
    database = await Database.open(path)
    await database.write(lambda c: c.execute(text("create table if not exists t (x int unique)")))
    return database


def insert(number: int) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(text(f"insert into t values ({number})"))


async def test_writes_are_seen_by_reads_and_after_a_restart(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")
    await asyncio.gather(*(database.write(insert(n)) for n in range(1000)))
    assert await database.read(count) == 1000
    await database.close()
    database = await a_database(tmp_path / "db")
    assert await database.read(count) == 1000
    await database.close()


async def test_a_write_that_fails_spoils_no_other(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")

    def half(connection: Connection) -> None:
        connection.execute(text("insert into t values (100)"))
        raise KeyError("on second thoughts")

    outcomes = await asyncio.gather(
        database.write(insert(1)),
        database.write(half),
        database.write(insert(1)),
        database.write(insert(2)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], KeyError)
    assert isinstance(outcomes[2], Unavailable)
    assert await database.read(count) == 2
    await database.close()


async def test_a_cancelled_caller_does_not_stop_a_write(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")
    writing = asyncio.ensure_future(database.write(insert(1)))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await database.write(insert(2))
    assert await database.read(count) == 2
    await database.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")
    await database.write(lambda c: c.execute(text("update schema_version set version = 1000")))
    await database.close()
    with pytest.raises(FailedPrecondition, match="1000"):
        await Database.open(tmp_path / "db")


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(Unavailable):
        await Database.open(tmp_path / "db")


KILLED = """
    import asyncio, os, sys
    from pathlib import Path
    from sqlalchemy import text
    from server.db.engine import Database

    async def main():
        database = await Database.open(Path(sys.argv[1]))
        await database.write(lambda c: c.execute(text("create table t (x int)")))

        async def one(number):
            await database.write(lambda c: c.execute(text(f"insert into t values ({number})")))
            os.write(1, f"{number}\\n".encode())
            if number == 300:
                os.kill(os.getpid(), 9)

        await asyncio.gather(*(one(number) for number in range(1000)))

    asyncio.run(main())
"""


async def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path) -> None:
    path = tmp_path / "db"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -9
    acknowledged = {int(line) for line in done.stdout.splitlines()}
    database = await Database.open(path)
    rows = await database.read(lambda c: c.execute(text("select x from t")).scalars().all())
    assert acknowledged <= set(rows)
    await database.close()


FIND = Prepared(lambda _: text("select x from t where x = :number").columns(column("x")))


async def test_a_look_up_sees_every_write_that_is_done(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")
    for number in range(20):
        assert await database.look_up(FIND, {"number": number}) == []
        await database.write(insert(number))
        assert await database.look_up(FIND, {"number": number}) == [(number,)]
    await database.close()


async def test_a_look_up_in_a_damaged_database_says_so(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")
    await database.write(lambda c: c.execute(text("drop table t")))
    with pytest.raises(Unavailable, match="no such table"):
        await database.look_up(FIND, {"number": 7})
    await database.close()


async def test_a_write_by_itself_that_fails_is_undone(tmp_path: Path) -> None:
    database = await a_database(tmp_path / "db")

    def half(connection: Connection) -> None:
        connection.execute(text("insert into t values (1)"))
        raise KeyError("on second thoughts")

    with pytest.raises(KeyError):
        await database.write(half)
    await database.write(insert(2))
    with pytest.raises(Unavailable):
        await database.write(insert(2))
    await database.write(insert(3))
    assert await database.read(count) == 2
    await database.close()
