"""How the schema came about, step by step. Steps are only ever added."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, inspect, select, update

from remote_apis.errors import FailedPrecondition
from server.db.tables import ACTION_RESULTS, DRAINED_WORKERS

_VERSION = Table("schema_version", MetaData(), Column("version", Integer, nullable=False))


def _create_action_results(connection: Connection) -> None:
    ACTION_RESULTS.create(connection)


def _create_drained_workers(connection: Connection) -> None:
    DRAINED_WORKERS.create(connection)


_STEPS: Sequence[Callable[[Connection], None]] = (_create_action_results, _create_drained_workers)


def migrate(connection: Connection) -> None:
    """Bring the schema to this program's version, inside the caller's transaction.

    Raises FailedPrecondition when a newer program has written the database.
    """
    if not inspect(connection).has_table(_VERSION.name):
        _VERSION.create(connection)
        connection.execute(insert(_VERSION).values(version=0))
    version = connection.execute(select(_VERSION.c.version)).scalar_one()
    if version > len(_STEPS):
        raise FailedPrecondition(
            f"the database has schema version {version}, this program knows {len(_STEPS)}"
        )
    for step in _STEPS[version:]:
        step(connection)
    connection.execute(update(_VERSION).values(version=len(_STEPS)))
