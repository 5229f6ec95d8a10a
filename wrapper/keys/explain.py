"""Why a unit had to be compiled: its newest key against the one before, and so on down."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wrapper.database import open_database
from wrapper.keys.change import Change
from wrapper.keys.compare import changes
from wrapper.keys.components import Gone, Messages
from wrapper.keys.journal import SCHEMA
from wrapper.layout import profile_of

_COLUMNS = (
    "id, directory, name, crate, package, form, kind, action, first, last, outcome, worker,"
    " reason, build"
)
MAX_DEPTH = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal; times are seconds since the epoch."""

    id: int
    directory: str
    name: str
    crate: str
    package: str
    form: str
    kind: str
    action: str | None
    first: float
    last: float
    outcome: str
    worker: str | None
    reason: str | None
    build: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A component that differs and, of a dependency, why that one did.

    `is_told`: that stands elsewhere in the same answer.
    """

    change: Change
    below: Comparison | None = None
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A unit's entry against an earlier one.

    `before` None: there is none. `is_elsewhere`: it is of another target directory; `is_of_path`:
    and its result holds the paths there. `causes` is
    None when the journal has lost what it takes to tell, and empty for one and the same key.
    """

    entry: Entry
    before: Entry | None
    is_elsewhere: bool = False
    is_of_path: bool = False
    causes: tuple[Cause, ...] | None = ()


@dataclass(slots=True)
class Explainer:
    """Reads the journal. `close` it."""

    path: Path
    _database: sqlite3.Connection = field(init=False)
    _messages: Messages = field(init=False)

    def __post_init__(self) -> None:
        self._database = open_database(self.path, SCHEMA)
        self._messages = Messages(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def units(self, crate: str) -> list[Entry]:
        """The units of a crate or package as they went in the last build that had any."""
        names = {crate, crate.replace("-", "_")}
        found = [
            entry
            for name in sorted(names | {crate.replace("_", "-")})
            for entry in self._select("crate = ? OR package = ? ORDER BY last DESC", name, name)
        ]
        if not found:
            return []
        build = max(found, key=lambda entry: entry.last).build
        of_build = {entry.id: entry for entry in found if entry.build == build}
        newest: dict[tuple[str, str], Entry] = {}
        for entry in sorted(of_build.values(), key=lambda entry: entry.id):
            newest[entry.directory, entry.name] = entry
        return list(newest.values())

    def compare(self, entry: Entry) -> Comparison:
        """The entry against the newest earlier one with another key, down to what caused it."""
        return self._compare(entry, self._before(entry), set(), 0)

    def _compare(
        self, entry: Entry, before: Entry | None, told: set[tuple[str, str]], depth: int
    ) -> Comparison:
        if before is None or entry.action is None or before.action is None:
            return Comparison(entry=entry, before=before)
        is_elsewhere = before.directory != entry.directory
        try:
            old = self._messages.components(before.action)
            found = changes(old, self._messages.components(entry.action), self._messages)
        except Gone:
            return Comparison(entry=entry, before=before, is_elsewhere=is_elsewhere, causes=None)
        return Comparison(
            entry=entry, before=before, is_elsewhere=is_elsewhere,
            is_of_path=is_elsewhere and bool(old.paths),
            causes=self._causes(entry, before, found, told, depth),
        )  # fmt: skip

    def _causes(
        self,
        entry: Entry,
        before: Entry,
        found: Sequence[Change],
        told: set[tuple[str, str]],
        depth: int,
    ) -> tuple[Cause, ...]:
        causes = []
        for change in found:
            maker, before_that = _makers(change)
            if maker is None or depth >= MAX_DEPTH:
                causes.append(Cause(change=change))
                continue
            now = self._at(maker, entry.directory, entry.first)
            if now is None or (now.directory, now.name) in told:
                is_told = now is not None and change.kind == "dependency"
                causes.append(Cause(change=change, is_told=is_told))
                continue
            told.add((now.directory, now.name))
            was = None
            if before_that is not None:
                was = self._at(before_that, before.directory, before.last)
            if change.kind == "build-output" and was == now and now.build != entry.build:
                causes.append(Cause(change=change))  # a script that ran without a daemon
                continue
            causes.append(Cause(change=change, below=self._compare(now, was, told, depth + 1)))
        # dependencies of dependencies are inputs too: once told, they only lengthen the answer
        return tuple(cause for cause in causes if not cause.is_told) or tuple(causes)

    def _before(self, entry: Entry) -> Entry | None:
        """The newest earlier entry of the unit, or of one that does the same work."""
        same = self._select(
            "directory = ? AND name = ? AND id < ? AND action IS NOT NULL ORDER BY id DESC LIMIT 1",
            entry.directory, entry.name, entry.id,
        )  # fmt: skip
        if same:
            return same[0]
        alike = "package = ? AND crate = ? AND form = ? AND id < ? AND action IS NOT NULL"
        of_crate = (entry.package, entry.crate, entry.form, entry.id)
        profile = profile_of(entry.directory)
        near = self._select(f"{alike} ORDER BY id DESC LIMIT 50", *of_crate)
        same = [each for each in near if profile_of(each.directory) == profile]
        name = os.path.basename(profile)
        same += [each for each in near if os.path.basename(profile_of(each.directory)) == name]
        return next(iter(same or near), None)

    def _at(self, name: str, directory: str, time: float) -> Entry | None:
        """A dependency's entry that was in force at a time, of this target directory if any is."""
        found = self._select("name = ? AND first <= ? ORDER BY id DESC", name, time)
        if not found:
            found = self._select("name = ? ORDER BY id", name)
        profile = profile_of(directory)
        near = (each for each in found if profile_of(each.directory) == profile)
        return next(near, None) or next(iter(found), None)

    def _select(self, condition: str, *values: object) -> list[Entry]:
        query = f"SELECT {_COLUMNS} FROM actions WHERE {condition}"
        return [Entry(*row) for row in self._database.execute(query, values)]


def _makers(change: Change) -> tuple[str | None, str | None]:
    """The names of what made the new and the old component, if something did."""
    if change.kind == "dependency":
        return change.new, change.old
    if change.kind == "build-output" and change.old and change.new:
        directory, out, _ = change.name.split("/", 2)
        return f"{directory}/{out}", f"{directory}/{out}"
    return None, None
