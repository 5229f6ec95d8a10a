"""The macros among a compile's dependencies, and what they may read in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from wrapper.inputs.code_reads import Reads
from wrapper.inputs.macro_trust import MacroTrust
from wrapper.inputs.unit_records import UnitRecord, UnitRecords
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.outputs import library_name


class Macros:
    """Says what they may read, by what they are made of."""

    def __init__(self, units: UnitRecords, trust: MacroTrust) -> None:
        self._units = units
        self._trust = trust

    def reads(
        self, externs: Iterable[str], closure: Mapping[str, UnitRecord], compiled: str | None
    ) -> Reads:
        """What macros may read within a compile that has these dependencies."""

        def reads_of(libraries: Iterable[str]) -> Reads:
            return self._trust.reads(self._packages(libraries), compiled=compiled)

        macros = _macros_of(closure)
        every = reads_of(macros)
        if every.suspect is None:
            return every
        reads = {stem: reads_of([stem]) for stem in macros}
        suspects = {stem for stem, found in reads.items() if found.suspect is not None}
        nameable = [s for s in self._nameable(externs, closure, suspects) if s in suspects]
        for stem in nameable:
            if not reads[stem].is_seen:
                return reads[stem]
        return reads_of((set(macros) - suspects).union(nameable))

    def hand_on(self, externs: Collection[str], variable: str) -> bool:
        """Whether a macro that a compile with these dependencies can name may ask there for a
        variable's value. Raises NotUnderstood and OSError."""
        closure = self._units.closure(externs)
        nameable = {stem: closure[stem] for stem in self._nameable(externs, closure, closure)}
        # what makes a macro's code may lie in what that stands on
        packages = {record.package for record in nameable.values()}
        packages |= self._packages(_macros_of(nameable)).keys()
        return any(not p or self._trust.hands_on_value(p, variable) for p in packages)

    def _nameable(
        self, externs: Iterable[str], closure: Mapping[str, UnitRecord], wanted: Iterable[str]
    ) -> Iterator[str]:
        """The dependencies that the compile can name, of those that are or stand on the wanted."""
        above = set(wanted)
        while more := {
            stem
            for stem, record in closure.items()
            if stem not in above and not above.isdisjoint(record.externs)
        }:
            above |= more
        pending = [stem for stem in externs if stem in above]
        seen: set[str] = set()
        while pending:
            stem = pending.pop()
            if stem in seen:
                continue
            seen.add(stem)
            yield stem
            record = closure[stem]
            names = record.names or ("",) * len(record.externs)
            pending += [
                each
                for name, each in zip(names, record.externs, strict=True)
                if each in above and (not name or self._trust.hands_on(record.package, name))
            ]

    def _packages(self, libraries: Iterable[str]) -> dict[str, set[str]]:
        """The packages that some libraries are made of, with their features."""
        found: dict[str, set[str]] = {}
        for record in self._units.closure(libraries).values():
            found.setdefault(record.package, set()).update(record.features)
        return found


def _macros_of(units: Mapping[str, UnitRecord]) -> list[str]:
    return [
        stem
        for stem, record in units.items()
        if record.may_be_macro and os.path.exists(_shared_library(stem))
    ]


def _shared_library(stem: str) -> str:
    directory, name = os.path.split(stem)
    return f"{directory}/lib{name}.so"


def artifacts(stem: str, target: str | None, *, with_code: bool) -> Iterator[str]:
    """The files of a dependency that a compile for a target reads: metadata, and code where it
    links."""
    directory, name = os.path.split(stem)
    candidates = [f"lib{name}.rmeta", f"lib{name}.so"]
    if (library := library_name(name, target)) not in candidates:
        candidates.append(library)
    if with_code:
        candidates.append(f"lib{name}.rlib")
    found = [p for p in (f"{directory}/{c}" for c in candidates) if os.path.exists(p)]
    if not found and not with_code:
        rlib = f"{directory}/lib{name}.rlib"
        found = [rlib] if os.path.exists(rlib) else []
    if not found:
        raise NotUnderstood(f"its dependency {name} is not in {directory}")
    return iter(found)
