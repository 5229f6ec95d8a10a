"""The tables. A change here needs a migration."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, MetaData, String, Table, Text
from sqlalchemy import SmallInteger as Small

METADATA = MetaData()

ACTION_RESULTS = Table(
    "action_results",
    METADATA,
    Column("instance", String(1024), primary_key=True),
    Column("digest_function", Small, primary_key=True, autoincrement=False),
    Column("hash", String(128), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("result", LargeBinary, nullable=False),
    Column("last_use", Float, nullable=False),
    Index("action_results_by_use", "last_use"),
    sqlite_with_rowid=False,
)

DRAINED_WORKERS = Table(
    "drained_workers",
    METADATA,
    Column("name", Text, primary_key=True),
    sqlite_with_rowid=False,
)
