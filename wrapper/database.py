"""SQLite files of DISTBUILD_HOME, of which none is needed: a damaged one is begun anew."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

_LOG = logging.getLogger("distbuild.database")


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """A file, made if need be. Raises sqlite3.Error."""
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    # what is lost costs a compile here, or an explanation; no build depends on it
    database.execute("PRAGMA synchronous=OFF")
    database.executescript(schema)
    return database


def open_or_replace(path: Path, schema: str) -> sqlite3.Connection:
    """The same; a damaged one is begun anew. Raises sqlite3.Error."""
    try:
        return open_database(path, schema)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return replace_database(path, schema, error)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is none, or not whole; not where the disk is full or it cannot be read."""
    return type(error) is sqlite3.DatabaseError


def replace_database(path: Path, schema: str, error: Exception) -> sqlite3.Connection:
    """An empty one in place of a damaged one. Raises OSError and sqlite3.Error."""
    _LOG.warning("%s is begun anew: %s", path.name, error)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return open_database(path, schema)
