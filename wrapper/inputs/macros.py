"""The macros among a compile's dependencies, and what they may read in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from remote_apis.digest import Digest
from wrapper.build_scripts.environment import cargos_variables, tokens_of, users_variables
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.macro_trust import MacroTrust, Reads
from wrapper.inputs.snapshot import Source
from wrapper.inputs.unit_records import UnitRecord, UnitRecords
from wrapper.rustc.arguments import NotUnderstood

_MAX_WORDS_OF = 20_000
_BEGINNING = 4096


class Macros:
    """Says what they may read; remembers what it has looked at."""

    def __init__(self, files: FileDigests, units: UnitRecords, trust: MacroTrust) -> None:
        self._files = files
        self._units = units
        self._trust = trust
        self._known_words: dict[Digest, frozenset[str]] = {}

    def reads(
        self, externs: Iterable[str], closure: Mapping[str, UnitRecord], compiled: str | None
    ) -> Reads:
        """What macros may read within a compile that has these dependencies."""

        def reads_of(libraries: Iterable[str]) -> Reads:
            return self._trust.reads(self._packages(libraries), compiled=compiled)

        macros = [
            stem
            for stem, record in closure.items()
            if record.may_be_macro and os.path.exists(_shared_library(stem))
        ]
        every = reads_of(macros)
        if every.suspect is None:
            return every
        reads = {stem: reads_of([stem]) for stem in macros}
        suspects = {stem for stem, found in reads.items() if found.suspect is not None}
        nameable = [s for s in self._nameable(externs, closure, suspects) if s in suspects]
        for stem in nameable:
            if not reads[stem].is_seen:
                return reads[stem]
        found = reads_of((set(macros) - suspects).union(nameable))
        handed = self._nameable(externs, closure, nameable)
        libraries = (path for stem in handed for path in artifacts(stem, with_code=False))
        return replace(found, libraries=tuple(libraries) if nameable else ())

    def with_named(
        self,
        macros: Reads,
        sources: Iterable[Mapping[Digest, Source]],
        environment: Mapping[str, str],
    ) -> Reads:
        """What macros may read, and the user's variables for which they may ask.

        Their names are in the macros, in what hands these on, or in the sources that use them.
        """
        words: set[str] = set()
        for path in macros.libraries:
            words.update(self._words(path, self._files.digest(path)))
        for blobs in sources:
            for digest, source in blobs.items():
                if isinstance(source, str):
                    words.update(self._words(source, digest))
        # one question for all: each variable is looked for by several patterns
        tokens = " ".join(words)
        # cargo sets its own for build scripts; here they are the user's as any other
        own = cargos_variables(environment).keys() & words
        named = users_variables(environment, tokens=tokens, named=own, reach="none")
        return replace(macros, variables=macros.variables | named.keys())

    def _words(self, path: str, digest: Digest) -> frozenset[str]:
        """What a file may call a variable. Raises OSError."""
        if digest not in self._known_words:
            if len(self._known_words) >= _MAX_WORDS_OF:
                self._known_words.clear()
            with open(path, "rb") as file:
                content = file.read()
            # what holds zeros is no source: a library is, and it has been asked for by its path
            is_program = content.startswith(b"\x7fELF")
            is_text = is_program or b"\0" not in content[:_BEGINNING]
            words = tokens_of(content).split() if is_text else ()
            self._known_words[digest] = frozenset(words)
        return self._known_words[digest]

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

    def _packages(self, libraries: Iterable[str]) -> list[str]:
        """The packages that some libraries are made of."""
        made_of = self._units.closure(libraries)
        return list(dict.fromkeys(record.package for record in made_of.values()))


def _shared_library(stem: str) -> str:
    directory, name = os.path.split(stem)
    return f"{directory}/lib{name}.so"


def artifacts(stem: str, *, with_code: bool) -> Iterator[str]:
    """The files of a dependency that a compile reads: metadata, and code where it links."""
    directory, name = os.path.split(stem)
    candidates = [f"lib{name}.rmeta", f"lib{name}.so"]
    if with_code:
        candidates.append(f"lib{name}.rlib")
    found = [p for p in (f"{directory}/{c}" for c in candidates) if os.path.exists(p)]
    if not found and not with_code:
        rlib = f"{directory}/lib{name}.rlib"
        found = [rlib] if os.path.exists(rlib) else []
    if not found:
        raise NotUnderstood(f"its dependency {name} is not in {directory}")
    return iter(found)
