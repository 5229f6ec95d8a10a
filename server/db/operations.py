"""The durable queue: operations in a table, so that a restart loses none."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from remote_apis.digest import Digest
from remote_apis.digest_functions import BY_NUMBER
from server.db.statements import Prepared
from server.scheduler.values import ExecuteSpec, OperationRecord, Platform, Requirement, Wishes

if TYPE_CHECKING:
    from server.db.engine import Database

METADATA = sa.MetaData()

OPERATIONS = sa.Table(
    "operations",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("digest_function", sa.SmallInteger, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("action", sa.LargeBinary, nullable=False),
    sa.Column("do_not_cache", sa.Boolean, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("invocation", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("wishes", sa.Text, nullable=True),
    sa.Column("queued_at", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("response", sa.LargeBinary, nullable=True),
    sa.Column("finished_at", sa.BigInteger, nullable=False),
)


def _upsert(dialect: str) -> sa.ClauseElement:
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(OPERATIONS)
    changing = ("action", "attempts", "worker", "response", "finished_at")
    updates = {name: statement.excluded[name] for name in changing}
    upsert: sa.ClauseElement = statement.on_conflict_do_update(
        index_elements=["name"], set_=updates
    )
    return upsert


_PUT = Prepared(_upsert)
_REMOVE = Prepared(lambda _: sa.delete(OPERATIONS).where(OPERATIONS.c.name == sa.bindparam("gone")))


class SqlOperationRepository:
    """An OperationRepository on a Database; call `prepare` before anything else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Make the table if it is not there. Raises Unavailable."""
        await self._database.write(create_operations)

    async def apply(self, put: Sequence[OperationRecord], removed: Sequence[str]) -> None:
        """Insert or replace the records and remove the named ones, all or nothing.

        Durable when this returns. Raises Unavailable and OutOfSpace, also when a record holds
        what the database refuses.
        """
        rows = [_to_row(record) for record in put]
        gone = [{"gone": name} for name in removed]

        def write(connection: sa.Connection) -> None:
            if rows:
                _PUT.run(connection, rows)
            if gone:
                _REMOVE.run(connection, gone)

        await self._database.write(write)

    async def load(self) -> list[OperationRecord]:
        """All records, in the order of their sequence numbers. Raises Unavailable."""
        query = sa.select(OPERATIONS).order_by(OPERATIONS.c.sequence)
        return await self._database.read(
            lambda connection: [_from_row(row._asdict()) for row in connection.execute(query)]
        )


def create_operations(connection: sa.Connection) -> None:
    """Make the table if it is not there."""
    OPERATIONS.create(connection, checkfirst=True)


def _to_row(record: OperationRecord) -> dict[str, Any]:
    spec = record.spec
    digest = spec.digest
    return {
        "name": record.name,
        "sequence": record.sequence,
        "instance": spec.requirement.instance,
        "platform": _platform_to_text(spec.requirement.platform),
        "digest_function": digest.function.number,
        "hash": digest.hash,
        "size": digest.size,
        "action": spec.action,
        "do_not_cache": spec.do_not_cache,
        "priority": spec.priority,
        "invocation": spec.invocation,
        "label": spec.label,
        "wishes": _wishes_to_text(spec.wishes),
        "queued_at": record.queued_at,
        "attempts": record.attempts,
        "worker": record.worker,
        "response": record.response,
        "finished_at": record.finished_at,
    }


def _from_row(row: dict[str, Any]) -> OperationRecord:
    platform = tuple((name, value) for name, value in json.loads(row["platform"]))
    return OperationRecord(
        name=row["name"],
        sequence=row["sequence"],
        spec=ExecuteSpec(
            requirement=Requirement(row["instance"], platform),
            packed_digest=Digest(
                BY_NUMBER[row["digest_function"]], row["hash"], row["size"]
            ).packed(),
            action=row["action"],
            do_not_cache=row["do_not_cache"],
            priority=row["priority"],
            invocation=row["invocation"],
            label=row["label"],
            wishes=_wishes_from_text(row["wishes"]),
        ),
        queued_at=row["queued_at"],
        attempts=row["attempts"],
        worker=row["worker"],
        response=row["response"],
        finished_at=row["finished_at"],
    )


@functools.lru_cache(maxsize=1024)
def _platform_to_text(platform: Platform) -> str:
    return json.dumps(platform)


def _wishes_to_text(wishes: Wishes | None) -> str | None:
    if wishes is None:
        return None
    return json.dumps([wishes.stdout, wishes.stderr, wishes.output_files])


def _wishes_from_text(text: str | None) -> Wishes | None:
    if text is None:
        return None
    stdout, stderr, output_files = json.loads(text)
    return Wishes(stdout=stdout, stderr=stderr, output_files=tuple(output_files))
