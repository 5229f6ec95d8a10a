"""Runs statements on threads of their own, writes in groups."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from remote_apis.errors import DistbuildError, OutOfSpace, Unavailable
from server.db.migrations import migrate
from server.db.statements import Prepared, Row, values

_READERS = 2
_GROUP = 256
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "cache_size=-256",  # KiB of each connection; the system's own cache is as good
)
_T = TypeVar("_T")


@dataclass(slots=True)
class _Write(Generic[_T]):
    function: Callable[[Connection], _T]
    future: asyncio.Future[_T]


class Database:
    """One database. Use `Database.open`.

    Reads run on threads beside one another. Writes run on one thread in the order in which they
    were asked for; those that wait together are committed together, each in its own savepoint.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._readers = ThreadPoolExecutor(_READERS, "db-read")
        self._writer = ThreadPoolExecutor(1, "db-write")
        # Kept, for getting one from the pool and giving it back costs as much as a small write.
        self._writing: Connection | None = None
        self._look_ups = _look_up_connection(path)
        self._waiting: list[_Write[Any]] = []
        self._running: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Open or create an SQLite database and bring its schema up to date.

        Raises FailedPrecondition when it is newer than this program.
        """
        self = cls(_sqlite_engine(path), path)
        try:
            await self.write(migrate)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Wait for the writes under way, then close all connections."""
        while self._running is not None:
            await asyncio.wait([self._running])
        self._readers.shutdown()
        self._look_ups.close()
        self._writer.submit(self._dispose).result()
        self._writer.shutdown()

    async def read(self, function: Callable[[Connection], _T]) -> _T:
        """Run a function that only reads. Raises Unavailable when the database fails."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, function)

    async def look_up(self, statement: Prepared, key: Row) -> list[tuple[object, ...]]:
        """The rows that a look-up by a whole key finds. Raises as `read`.

        It takes some microseconds and is done here and now: a thread would cost ten times as much.
        """
        text, order = statement.text(self._engine.dialect)
        try:
            return self._look_ups.execute(text, values(key, order)).fetchall()
        except sqlite3.Error:
            # whoever has to wait, or has an error to tell, does so on a thread
            return await self.read(lambda connection: statement.rows(connection, key))

    async def write(self, function: Callable[[Connection], _T]) -> _T:
        """Run a function and commit; durable when this returns.

        What the function raises comes out here and undoes only what it did. Raises OutOfSpace
        and Unavailable. A caller that is cancelled does not stop a write that has been asked for.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(function, future))
        if self._running is None:
            self._start()
        return await asyncio.shield(future)

    def _read(self, function: Callable[[Connection], _T]) -> _T:
        try:
            with self._engine.connect() as connection:
                return function(connection)
        except DBAPIError as error:
            raise _translated(error) from error

    def _start(self) -> None:
        group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
        loop = asyncio.get_running_loop()
        self._running = loop.create_future()
        running = loop.run_in_executor(self._writer, self._write_group, group)
        running.add_done_callback(lambda finished: self._finish(group, finished))

    def _finish(self, group: Sequence[_Write[Any]], finished: asyncio.Future[list[object]]) -> None:
        running, self._running = self._running, None
        failure = finished.exception()
        outcomes = [failure] * len(group) if failure else finished.result()
        for write, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, _Raised):
                outcome = outcome.error
            if isinstance(outcome, BaseException):
                write.future.set_exception(outcome)
                write.future.exception()  # a caller that is gone does not ask
            else:
                write.future.set_result(outcome)
        if self._waiting:
            self._start()
        assert running is not None
        running.set_result(None)

    def _write_group(self, group: Sequence[_Write[Any]]) -> list[object]:
        try:
            connection = self._writing = self._writing or self._engine.connect()
            with connection.begin():
                if len(group) == 1:  # the transaction is its savepoint
                    return [group[0].function(connection)]
                return [_write_one(connection, write) for write in group]
        except DBAPIError as error:
            self._disconnect()
            raise _translated(error) from error

    def _disconnect(self) -> None:
        """Drop the connection for writes, whatever state it is in."""
        connection, self._writing = self._writing, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _dispose(self) -> None:
        self._disconnect()
        self._engine.dispose()


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


def _write_one(connection: Connection, write: _Write[Any]) -> object:
    try:
        with connection.begin_nested():
            return write.function(connection)
    except DBAPIError as error:
        # another process has the lock: it would keep each of the others waiting as long
        if connection.invalidated or _is_locked(error):
            raise
        return _Raised(_translated(error))
    except Exception as error:  # noqa: BLE001 - handed to the one who asked for the write
        return _Raised(error)


def _is_locked(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _translated(error: DBAPIError) -> DistbuildError:
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return OutOfSpace("no space is left on the disk for the database")
    if isinstance(error, OperationalError):
        return Unavailable(f"the database does not answer: {error.orig}")
    return Unavailable(f"the database refused a statement: {error.orig}")


def _look_up_connection(path: Path) -> sqlite3.Connection:
    """One that is used on the event loop's thread and therefore waits for nobody."""
    return sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: object) -> None:
        # Without this the driver begins transactions behind SQLAlchemy's back, which breaks
        # savepoints.
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
