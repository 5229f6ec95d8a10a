"""Which workers are drained, in a table."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from server.db.engine import Database
from server.db.tables import DRAINED_WORKERS


class SqlDrainedWorkers:
    """A DrainedWorkers on a Database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, names: Collection[str]) -> None:
        """Add names; some may be there already. Raises Unavailable and OutOfSpace."""

        def write(connection: sa.Connection) -> None:
            known = set(connection.scalars(sa.select(DRAINED_WORKERS.c.name)))
            rows = [{"name": name} for name in set(names) - known]
            if rows:
                connection.execute(sa.insert(DRAINED_WORKERS), rows)

        await self._database.write(write)

    async def remove(self, names: Collection[str]) -> None:
        """Remove names; some may be absent. Raises Unavailable and OutOfSpace."""
        rows = [{"gone": name} for name in names]
        delete = sa.delete(DRAINED_WORKERS).where(DRAINED_WORKERS.c.name == sa.bindparam("gone"))

        def write(connection: sa.Connection) -> None:
            if rows:
                connection.execute(delete, rows)

        await self._database.write(write)

    async def load(self) -> frozenset[str]:
        """All names. Raises Unavailable."""
        query = sa.select(DRAINED_WORKERS.c.name)
        return await self._database.read(
            lambda connection: frozenset(connection.scalars(query)),
        )
