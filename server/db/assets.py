"""The index of the Remote Asset API in SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from server.asset.index import Asset, AssetKey, Qualifiers
from server.db.engine import Database

METADATA = sa.MetaData()
_SLICE = 500
"""URIs a statement asks for at once; databases bound the number of parameters."""

ASSETS = sa.Table(
    "assets",
    METADATA,
    sa.Column("instance", sa.String(1024), primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("digest_function", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("uri", sa.String(64), primary_key=True),  # its hash, as URIs can be long
    sa.Column("qualifiers", sa.String(64), primary_key=True),  # theirs, as they can be secret
    sa.Column("hash", sa.String(128), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=True),
    sa.Column("more", sa.Text, nullable=False),
    sa.Index("assets_by_age", "created_at"),
    sqlite_with_rowid=False,
)
_KEY = ("instance", "kind", "digest_function", "uri", "qualifiers")


class SqlAssetIndex:
    """An AssetIndex on a Database; call `prepare` before anything else.

    Beyond `max_entries` the oldest are forgotten.
    """

    def __init__(self, database: Database, *, max_entries: int = 1_000_000) -> None:
        self._database = database
        self._max_entries = max_entries
        self._puts_since_trim = 0

    async def prepare(self) -> None:
        """Make the table if it is not there. Raises Unavailable."""
        await self._database.write(lambda connection: ASSETS.create(connection, checkfirst=True))

    async def get(self, key: AssetKey, uris: Sequence[str]) -> dict[str, Asset]:
        by_hash = {_hash(uri): uri for uri in uris}

        def read(connection: sa.Connection) -> dict[str, Asset]:
            found = {}
            for part in _slices(by_hash):
                query = sa.select(ASSETS).where(_of_key(key), ASSETS.c.uri.in_(part))
                query = query.where(ASSETS.c.qualifiers == _hash_of(key.qualifiers))
                for row in connection.execute(query):
                    found[by_hash[row.uri]] = _to_asset(row._asdict(), key.function)
            return found

        return await self._database.read(read)

    async def put(self, key: AssetKey, uris: Collection[str], asset: Asset) -> None:
        names = [name for name, _ in key.qualifiers]
        rows = [_to_row(key, uri, asset, names) for uri in dict.fromkeys(uris)]
        await self._database.write(_upserting(rows))
        self._puts_since_trim += len(rows)
        if self._puts_since_trim > self._max_entries // 10:
            self._puts_since_trim = 0
            await self._database.write(self._trim)

    async def known_names(self, key: AssetKey, uris: Sequence[str]) -> set[str]:
        hashes = [_hash(uri) for uri in uris]

        def read(connection: sa.Connection) -> set[str]:
            names: set[str] = set()
            for part in _slices(hashes):
                query = sa.select(ASSETS.c.more).where(_of_key(key), ASSETS.c.uri.in_(part))
                for more in connection.execute(query).scalars():
                    names.update(json.loads(more)["names"])
            return names

        return await self._database.read(read)

    def _trim(self, connection: sa.Connection) -> None:
        count = connection.execute(sa.select(sa.func.count()).select_from(ASSETS)).scalar_one()
        excess = count - self._max_entries
        if excess > 0:
            order = sa.select(ASSETS.c.created_at).order_by(ASSETS.c.created_at)
            last = connection.execute(order.offset(excess - 1).limit(1)).scalar_one()
            connection.execute(sa.delete(ASSETS).where(ASSETS.c.created_at <= last))


def _of_key(key: AssetKey) -> sa.ColumnElement[bool]:
    return sa.and_(
        ASSETS.c.instance == key.instance,
        ASSETS.c.kind == key.kind.value,
        ASSETS.c.digest_function == key.function.number,
    )


def _upserting(rows: list[dict[str, Any]]) -> Callable[[sa.Connection], None]:
    def write(connection: sa.Connection) -> None:
        dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(ASSETS)
        changing = [column.name for column in ASSETS.columns if column.name not in _KEY]
        updates = {name: statement.excluded[name] for name in changing}
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(_KEY), set_=updates), rows
        )

    return write


def _to_row(key: AssetKey, uri: str, asset: Asset, names: Sequence[str]) -> dict[str, Any]:
    more = {
        "names": names,
        "qualifiers": asset.qualifiers,
        "blobs": [(digest.hash, digest.size) for digest in asset.blobs],
        "directories": [(digest.hash, digest.size) for digest in asset.directories],
    }
    return {
        "instance": key.instance,
        "kind": key.kind.value,
        "digest_function": key.function.number,
        "uri": _hash(uri),
        "qualifiers": _hash_of(key.qualifiers),
        "hash": asset.digest.hash,
        "size": asset.digest.size,
        "created_at": asset.created_at,
        "expires_at": asset.expires_at,
        "more": json.dumps(more),
    }


def _to_asset(row: dict[str, Any], function: DigestFunction) -> Asset:
    more = json.loads(row["more"])
    return Asset(
        digest=Digest(function, row["hash"], row["size"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        blobs=tuple(Digest(function, hash_, size) for hash_, size in more["blobs"]),
        directories=tuple(Digest(function, hash_, size) for hash_, size in more["directories"]),
        qualifiers=tuple((name, value) for name, value in more["qualifiers"]),
    )


def _slices(hashes: Collection[str]) -> Iterator[list[str]]:
    remaining = iter(hashes)
    while part := list(islice(remaining, _SLICE)):
        yield part


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_of(qualifiers: Qualifiers) -> str:
    return _hash(json.dumps(qualifiers))
