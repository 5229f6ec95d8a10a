"""The journal of keys: for every unit, and every build script's run, its last actions and how they
went.

A key is the digest of an Action, and all that it depends on hangs on that one message: command,
runner script, directories. These messages are small and mostly the same from one time to the next,
so they are kept whole, by digest, and nothing has to be worked out while a build runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.database import is_damage, open_or_replace, replace_database
from wrapper.layout import name_of_run
from wrapper.rustc.arguments import Invocation
from wrapper.rustc.outputs import unit_kind
from wrapper.stats import SCRIPT_RUN, UnitStat

MAX_BYTES = 64 << 20
KEPT_ACTIONS = 4
"""Different keys that are kept of one unit."""

_DAY = 86400.0
_LOG = logging.getLogger("distbuild.daemon")
SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    digest TEXT PRIMARY KEY, data BLOB NOT NULL, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS actions (
    id INTEGER PRIMARY KEY, directory TEXT NOT NULL, name TEXT NOT NULL, crate TEXT NOT NULL,
    package TEXT NOT NULL, form TEXT NOT NULL, kind TEXT NOT NULL, action TEXT, first REAL NOT NULL,
    last REAL NOT NULL, outcome TEXT NOT NULL, worker TEXT, reason TEXT, build TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS actions_by_name ON actions (name, directory);
CREATE INDEX IF NOT EXISTS actions_by_crate ON actions (crate);
CREATE INDEX IF NOT EXISTS actions_by_package ON actions (package);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an entry is about: a unit, or a build script's run.

    `directory` and `name` are its own on this machine; what has the same `form` in another
    directory does the same work. `kind` is that of `stats.UnitStat`.
    """

    directory: str
    name: str
    form: str
    kind: str

    @classmethod
    def of(cls, invocation: Invocation) -> Subject:
        """A unit; kind, what is emitted, and for which target tell apart those of one crate."""
        kind, emit = unit_kind(invocation), ",".join(sorted(invocation.emit))
        return cls(
            directory=invocation.out_dir,
            name=f"{invocation.crate_name}{invocation.extra_filename}",
            form=f"{kind} {emit} {invocation.target or ''}".rstrip(),
            kind=kind,
        )

    @classmethod
    def of_run(cls, out_dir: str, target: str) -> Subject:
        """A run of a build script, by its OUT_DIR."""
        directory = os.path.dirname(out_dir)
        return cls(
            directory=directory,
            name=f"{name_of_run(out_dir)}/out",
            form=f"{SCRIPT_RUN} {target}",
            kind=SCRIPT_RUN,
        )

    @classmethod
    def unknown(cls, crate: str) -> Subject:
        """A call that was not understood."""
        return cls(directory="", name=crate, form="", kind="other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a unit went; the words are those of `stats.UnitStat`, but for its crate, the package."""

    crate: str
    package: str
    outcome: str
    worker: str | None
    reason: str | None
    build: str

    @classmethod
    def of(cls, unit: UnitStat, crate: str, build: str) -> Ended:
        """What the statistics say of a unit of this crate and build."""
        return cls(
            crate=crate, package=unit.crate, outcome=unit.outcome, worker=unit.worker,
            reason=unit.reason, build=build,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Noted:
    action: str
    at: float


class KeyJournal:
    """Writes the journal; one a daemon. Used from several threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open or make the file. One that has grown beyond 64 MiB loses what is oldest."""
        self._clock = clock
        self._lock = threading.Lock()
        self._path = path
        self._database = open_or_replace(path, SCHEMA)
        self._stored: set[str] = set()
        self._day = 0
        self._noted: dict[Subject, _Noted] = {}
        self._shrink()

    def note(self, subject: Subject, action: BuiltAction, at: float | None = None) -> None:
        """Keep the messages of an action that is looked for, since now unless `at` is given.

        `ended` tells how it went.
        """

        def write() -> None:
            self._keep(action)
            since = self._clock() if at is None else at
            self._noted[subject] = _Noted(str(action.digest), since)

        self._write(write)

    def amend(self, subject: Subject, noted: Digest, action: BuiltAction) -> None:
        """What ended turned out to have read more: its result is kept under this action."""
        if noted == action.digest:
            return

        def write() -> None:
            self._keep(action)
            self._amend(subject, noted, "action", str(action.digest))

        self._write(write)

    def explain(self, subject: Subject, noted: Digest, build: str, reason: str) -> None:
        """Why what ended in this build was done here turned out only then."""
        # a later build may have made the same again, and kept it
        self._write(lambda: self._amend(subject, noted, "reason", reason, build))

    def _amend(
        self, subject: Subject, noted: Digest, column: str, value: str, build: str | None = None
    ) -> None:
        self._database.execute(
            f"UPDATE actions SET {column} = ? WHERE id ="
            " (SELECT max(id) FROM actions WHERE name = ? AND directory = ?) AND action = ?"
            " AND build = coalesce(?, build)",
            (value, subject.name, subject.directory, str(noted), build),
        )

    def ended(self, subject: Subject, ended: Ended) -> None:
        """Note how it went, with the action noted before, if one was."""
        self._write(lambda: self._end(subject, ended))

    def _end(self, subject: Subject, ended: Ended) -> None:
        directory, name = subject.directory, subject.name
        now = self._clock()
        noted = self._noted.pop(subject, None)
        action = noted.action if noted else None
        went = (now, ended.outcome, ended.worker, ended.reason, ended.build)
        known = self._database.execute(
            "SELECT id, action FROM actions WHERE name = ? AND directory = ? ORDER BY id DESC",
            (name, directory),
        ).fetchall()
        if known and known[0][1] == action:
            self._database.execute(
                "UPDATE actions SET last = ?, outcome = ?, worker = ?, reason = ?, build = ?"
                " WHERE id = ?",
                (*went, known[0][0]),
            )
            return
        first = noted.at if noted else now
        crate, package, form, kind = ended.crate, ended.package, subject.form, subject.kind
        self._database.execute(
            "INSERT INTO actions (directory, name, crate, package, form, kind, action, first,"
            " last, outcome, worker, reason, build) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (directory, name, crate, package, form, kind, action, first, *went),
        )
        self._database.executemany(
            "DELETE FROM actions WHERE id = ?", [(row[0],) for row in known[KEPT_ACTIONS - 1 :]]
        )

    def _write(self, work: Callable[[], None]) -> None:
        """Alone, in one transaction; what cannot be written is left out: no build depends on it."""
        with self._lock:
            try:
                self._database.execute("BEGIN")
                work()
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                self._stored.clear()
                _LOG.warning("the journal of keys cannot be written: %s", error)
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                if is_damage(error):
                    self._begin_anew(error)

    def _begin_anew(self, error: sqlite3.Error) -> None:
        with contextlib.suppress(OSError, sqlite3.Error):  # else the next one tries
            self._database.close()
            self._database = replace_database(self._path, SCHEMA, error)

    def _keep(self, action: BuiltAction) -> None:
        """Store the messages that are not stored yet."""
        day = int(self._clock() / _DAY)
        if day != self._day:
            self._day = day
            self._stored.clear()  # what is still in use gets the new day
        self._database.executemany(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?)",
            [(str(d), zlib.compress(data, 1), day) for d, data in self._new_messages(action)],
        )

    def _new_messages(self, action: BuiltAction) -> Iterator[tuple[Digest, bytes]]:
        """Those not kept yet; below a directory that is, all are."""
        data = action.blobs[action.digest]
        assert isinstance(data, bytes)
        message = re_pb.Action.FromString(data)
        function = action.digest.function
        pending = [action.digest, Digest.from_message(message.command_digest, function)]
        directories = [Digest.from_message(message.input_root_digest, function)]
        while pending or directories:
            is_directory = not pending
            digest = directories.pop() if is_directory else pending.pop()
            content = action.blobs.get(digest)
            if str(digest) in self._stored or not isinstance(content, bytes):
                continue
            self._stored.add(str(digest))
            yield digest, content
            if is_directory:
                directory = re_pb.Directory.FromString(content)
                directories += [
                    Digest.from_message(node.digest, function) for node in directory.directories
                ]
                # a file whose bytes are in hand was made for the action: the runner script
                pending += [
                    found
                    for found in (Digest.from_message(f.digest, function) for f in directory.files)
                    if isinstance(action.blobs.get(found), bytes)
                ]

    def _shrink(self) -> None:
        for days in (30, 7, 1, -1):
            if self._size() <= MAX_BYTES:
                return
            before = self._clock() - days * _DAY
            self._database.execute("DELETE FROM actions WHERE last < ?", (before,))
            self._database.execute("DELETE FROM messages WHERE used < ?", (int(before / _DAY),))
            self._database.execute("VACUUM")

    def _size(self) -> int:
        pages: int = self._database.execute("PRAGMA page_count").fetchone()[0]
        size: int = self._database.execute("PRAGMA page_size").fetchone()[0]
        return pages * size

    def close(self) -> None:
        """Close the file."""
        self._database.close()
