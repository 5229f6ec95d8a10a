"""The action cache in SQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey
from server.db.batching import Batcher
from server.db.engine import Database
from server.db.statements import Prepared
from server.db.tables import ACTION_RESULTS as T

_Row = dict[str, object]
_USES_IN_MEMORY = 1000
_KEY = ("instance", "digest_function", "hash", "size")

_MATCHES = (
    (T.c.instance == bindparam("b_instance"))
    & (T.c.digest_function == bindparam("b_digest_function"))
    & (T.c.hash == bindparam("b_hash"))
    & (T.c.size == bindparam("b_size"))
)


def _upsert(dialect: str) -> ClauseElement:
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(T)
    upsert: ClauseElement = statement.on_conflict_do_update(
        index_elements=[T.c[name] for name in _KEY],
        set_={"result": statement.excluded.result, "last_use": statement.excluded.last_use},
    )
    return upsert


_GET = Prepared(lambda _: select(T.c.result).where(_MATCHES))
_PUT = Prepared(_upsert)


class SqlActionCache:
    """Results in the table action_results; the order of last uses is kept roughly, in batches."""

    def __init__(
        self,
        database: Database,
        *,
        max_entries: int = 1_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._max_entries = max_entries
        self._clock = clock
        self._uses: dict[ActionKey, float] = {}
        self._puts_since_trim = 0
        self._puts = Batcher(self._put_all)

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        rows = await self._database.look_up(_GET, _key(key))
        if not rows:
            return None
        ((data,),) = rows
        assert isinstance(data, bytes)
        self._uses[key] = self._clock()
        if len(self._uses) >= _USES_IN_MEMORY:
            await self.save_uses()
        return re_pb.ActionResult.FromString(data)

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        row = {
            "instance": key.instance,
            "digest_function": key.digest.function.number,
            "hash": key.digest.hash,
            "size": key.digest.size,
            "result": result.SerializeToString(),
            "last_use": self._clock(),
        }
        await self._puts.ask(row)
        self._puts_since_trim += 1
        if self._puts_since_trim > self._max_entries // 10:
            self._puts_since_trim = 0
            await self.trim()

    async def remove(self, key: ActionKey) -> None:
        statement = delete(T).where(_MATCHES)
        parameters = _key(key)
        await self._database.write(lambda connection: connection.execute(statement, parameters))

    async def save_uses(self) -> None:
        """Write down when results were last used; to be called before the database closes."""
        uses, self._uses = self._uses, {}
        rows = [{**_key(key), "b_last_use": last_use} for key, last_use in uses.items()]
        if rows:
            statement = update(T).where(_MATCHES).values(last_use=bindparam("b_last_use"))
            await self._database.write(lambda connection: connection.execute(statement, rows))

    async def trim(self) -> int:
        """Forget the results used least recently beyond `max_entries`; how many these were."""
        await self.save_uses()
        return await self._database.write(self._trim)

    async def _put_all(self, rows: Sequence[_Row]) -> list[None]:
        await self._database.write(lambda connection: _PUT.run(connection, rows))
        return [None] * len(rows)

    def _trim(self, connection: Connection) -> int:
        count = connection.execute(select(func.count()).select_from(T)).scalar_one()
        if count <= self._max_entries:
            return 0
        excess = count - self._max_entries
        order = select(T.c.last_use).order_by(T.c.last_use).offset(excess - 1).limit(1)
        last = connection.execute(order).scalar_one()
        return connection.execute(delete(T).where(T.c.last_use <= last)).rowcount


def _key(key: ActionKey) -> _Row:
    return {
        "b_instance": key.instance,
        "b_digest_function": key.digest.function.number,
        "b_hash": key.digest.hash,
        "b_size": key.digest.size,
    }
