"""What the wrapper has seen compiled: each unit's dependencies, by the path of its outputs.

rustc finds the dependencies of dependencies by itself in the deps directory; an input root must
bring them along, and nothing else says which they are.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wrapper.build_scripts.names import is_below
from wrapper.database import is_damage, open_or_replace, replace_database
from wrapper.rustc.arguments import Invocation, NotUnderstood

_SCHEMA = "CREATE TABLE IF NOT EXISTS units (stem BLOB PRIMARY KEY, record TEXT NOT NULL)"


@dataclass(frozen=True, slots=True)
class Learned:
    """What a compile turned out to read: variables by name, beside cargo's own, real paths of files
    outside of its package and OUT_DIR, or, with a slash at the end, of directories with all that is
    in them, the variables for which macros asked, and the system's libraries, by name, that the
    linker took beside those that it was told of. Of all but the first it counts also that they are
    not there; what rustc itself reads, its dep-info tells with every result."""

    variables: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories with all that is in them."""
        return directories_in(self.files)

    @property
    def names(self) -> frozenset[str]:
        """All of the variables."""
        return self.variables | self.asked

    def __or__(self, other: Learned) -> Learned:
        return Learned(
            self.variables | other.variables,
            tuple(sorted(_outermost({*self.files, *other.files}))),
            self.asked | other.asked,
            self.libraries | other.libraries,
        )


def directories_in(files: Iterable[str]) -> tuple[str, ...]:
    """Those of what was learned that are directories with all that is in them."""
    return tuple(path[:-1] for path in files if path.endswith("/"))


def _outermost(files: Collection[str]) -> Iterator[str]:
    """The same without what lies in one of these directories."""
    directories = directories_in(files)
    for path in files:
        around = (each for each in directories if f"{each}/" != path)
        if not is_below(path, around):
            yield path


NOTHING = Learned()
UNKNOWN_FEATURES = "*"
"""In records of old: any of them may have been on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """One compiled unit. `externs` are the stems of its direct dependencies, `native` the search
    paths it was given, `system` the libraries that the final link must find by itself;
    `environment`, `files`, `asked` and `libraries` are what it turned out to read (`learned`).
    `key` is the hash of its last action, empty when it had none; `package` is the directory of its
    sources, `recorded` what artifacts call it, if it is neither in the workspace nor in CARGO_HOME;
    `types` are its crate types, `names` what its sources call its `externs`, and `features` its
    package's that were on; missing in old records as `recorded` is. `made` is the hash of the
    artifact that dependents know it by (`moved_units`), empty until one has read it, and `sources`
    that of its package's directory, empty for a registry's.
    """

    externs: tuple[str, ...]
    native: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    key: str = ""
    package: str = ""
    recorded: str = ""
    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    features: tuple[str, ...] = (UNKNOWN_FEATURES,)
    made: str = ""
    sources: str = ""

    @property
    def learned(self) -> Learned:
        """What the compile turned out to read."""
        asked, libraries = frozenset(self.asked), frozenset(self.libraries)
        return Learned(frozenset(self.environment), self.files, asked, libraries)

    @property
    def may_be_macro(self) -> bool:
        """Whether its shared library, if it has one, is run by rustc."""
        return not self.types or "proc-macro" in self.types


UNKNOWN = UnitRecord(externs=())
"""The record of a unit that was never seen."""


def stem_of(path: str) -> str:
    """`/t/deps/libserde-ab.rmeta` → `/t/deps/serde-ab`: what all outputs of a unit share."""
    directory, name = os.path.split(path)
    return os.path.join(directory, name.split(".", 1)[0].removeprefix("lib"))


def record_of(
    invocation: Invocation,
    learned: Learned = NOTHING,
    key: str = "",
    package: str = "",
    recorded: str = "",
) -> tuple[str, UnitRecord]:
    """The stem and the record of a compile."""
    stem = f"{invocation.out_dir}/{invocation.crate_name}{invocation.extra_filename}"
    record = UnitRecord(
        externs=tuple(stem_of(e.path) for e in invocation.externs if e.path is not None),
        native=native_paths(invocation),
        system=tuple(v for v in invocation.native_libraries if not v.startswith("static")),
        environment=tuple(sorted(learned.variables)),
        files=tuple(sorted(learned.files)),
        asked=tuple(sorted(learned.asked)),
        libraries=tuple(sorted(learned.libraries)),
        key=key,
        package=package,
        recorded=recorded,
        types=invocation.crate_types,
        names=tuple(e.spec.rpartition(":")[2] for e in invocation.externs if e.path is not None),
        features=invocation.features,
    )
    return stem, record


def _record_from(text: str) -> UnitRecord:
    """Raises ValueError, TypeError or AttributeError for what is none."""
    values: dict[str, Any] = {
        key: value if isinstance(value, str) else tuple(value)
        for key, value in json.loads(text).items()
    }
    return UnitRecord(**values)


def native_paths(invocation: Invocation) -> tuple[str, ...]:
    """The directories that `-L` names for native libraries."""
    paths = (path for kind, path in invocation.library_paths if kind in ("native", "all"))
    return tuple(dict.fromkeys(paths))


class UnitRecords:
    """Records by stem, in memory and in an SQLite file. Used from several threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._database = open_or_replace(path, _SCHEMA)
        self._known: dict[str, UnitRecord] = {}
        self._by_name: dict[str, set[str]] | None = None

    def add(self, stem: str, record: UnitRecord) -> None:
        """Note a unit, replacing what was known of its stem."""
        if self._known.get(stem) == record:
            return
        with self._lock:
            self._known[stem] = record
            if self._by_name is not None:
                self._by_name[os.path.basename(stem)].add(stem)
            self._execute(
                "INSERT OR REPLACE INTO units VALUES (?, ?)",
                (os.fsencode(stem), json.dumps(asdict(record))),
            )

    def find(self, stem: str) -> UnitRecord | None:
        """The record of a stem, or None when the unit was never seen there."""
        known = self._known.get(stem)
        if known is not None:
            return known
        with self._lock:
            rows = self._execute("SELECT record FROM units WHERE stem = ?", (os.fsencode(stem),))
        if not rows:
            return None
        try:
            return self._known.setdefault(stem, _record_from(rows[0][0]))
        except (ValueError, TypeError, AttributeError):
            return None  # of another version's form, or damaged

    def named(self, name: str) -> dict[str, UnitRecord]:
        """The units whose stems end so, wherever they are."""
        with self._lock:
            if self._by_name is None:
                self._by_name = defaultdict(set)
                for (stem,) in self._execute("SELECT stem FROM units"):
                    self._by_name[os.path.basename(os.fsdecode(stem))].add(os.fsdecode(stem))
            stems = sorted(self._by_name.get(name, ()))
        return {stem: record for stem in stems if (record := self.find(stem)) is not None}

    def get(self, stem: str) -> UnitRecord:
        """The same. Raises NotUnderstood when the unit was never seen."""
        record = self.find(stem)
        if record is None:
            name = os.path.basename(stem)
            # the words of wrapper.wording.BUILT_ELSEWHERE
            raise NotUnderstood(
                f"its dependency {name} was built without cargo-distbuild, or elsewhere"
            )
        return record

    def last(self, invocation: Invocation) -> UnitRecord:
        """The record of the same unit's last compile, or UNKNOWN."""
        return self.find(record_of(invocation)[0]) or UNKNOWN

    def closure(self, stems: Iterable[str]) -> dict[str, UnitRecord]:
        """All units that the named ones stand on, themselves included. Raises NotUnderstood."""
        found: dict[str, UnitRecord] = {}
        pending = list(stems)
        while pending:
            stem = pending.pop()
            if stem not in found:
                found[stem] = record = self.get(stem)
                pending.extend(record.externs)
        return found

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        """The rows of an answer. What a damaged file had is lost, which costs compiles here. Raises
        sqlite3.Error."""
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._database.close()
            self._database = replace_database(self._path, _SCHEMA, error)
            return self._database.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._database.close()
