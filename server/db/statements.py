"""Statements of the inner loop: compiled once, then run by the driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, object]


class Prepared:
    """A statement whose text is made once for each kind of database.

    SQLAlchemy's own way of running a statement costs several times what the database takes for a
    row. Values go to the driver as they are, so they must be of types that it knows.
    """

    def __init__(self, make: Callable[[str], sa.ClauseElement]) -> None:
        """`make` gives the statement for a dialect's name."""
        self._make = make
        self._compiled: dict[str, tuple[str, tuple[str, ...]]] = {}

    def run(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Run it for each of the rows, of which there must be one at least."""
        text, order = self.text(connection.dialect)
        connection.exec_driver_sql(text, [values(row, order) for row in rows])

    def rows(self, connection: sa.Connection, key: Row) -> list[tuple[object, ...]]:
        """Run it once; all rows that it finds."""
        text, order = self.text(connection.dialect)
        return [tuple(row) for row in connection.exec_driver_sql(text, values(key, order))]

    def text(self, dialect: sa.Dialect) -> tuple[str, tuple[str, ...]]:
        """What the driver is given, and the names of the values in their order."""
        known = self._compiled.get(dialect.name)
        if known is None:
            compiled = self._make(dialect.name).compile(dialect=dialect)
            assert isinstance(compiled, SQLCompiler)
            assert compiled.positiontup is not None, "the driver must take values by position"
            known = self._compiled[dialect.name] = str(compiled), tuple(compiled.positiontup)
        return known


def values(row: Row, order: Sequence[str]) -> tuple[object, ...]:
    """The values of a row as a `Prepared` wants them."""
    return tuple(row[name] for name in order)
