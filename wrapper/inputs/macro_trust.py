"""Do the macros of a dependency compute, and nothing else?

What a macro reads with `std::env` or `std::fs` no dep-info names, and a macro that copes with an
absence gives another result, and no error, where a file or variable is hidden. So a macro whose
sources, and those of all it is made of, speak of neither, nor of the time, may run on a worker, or
in a sandbox. Others run here alone, under watch (macro_watch.py), which tells what they ask for.
Of those that speak of what no watcher sees, such as the whole environment, nothing is kept. The age
of files is not seen either, but can be named. Variables that they name outright go into the key.
Text alone decides, and in doubt against trust.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from wrapper.inputs.cargo_manifests import library_root, says_all_names
from wrapper.inputs.code_reads import Reads, reads_of_all
from wrapper.inputs.package_sources import (
    contents,
    elsewhere,
    has_more,
    is_published,
    sources_of,
    with_included,
)
from wrapper.inputs.package_states import PublishedStates, state_of
from wrapper.inputs.re_exports import ReExports, re_exports_of
from wrapper.inputs.unit_records import UNKNOWN_FEATURES
from wrapper.path_values import values_handed_on

_LINK = rb'link(?<!\wlink)\s*\(\s*(?:[^)\]"]|"[^"]*")*?\b'
"""Begins with a word: a search for one is ten times as quick as for where a word begins."""

_LINKED = re.compile(_LINK + rb'name\s*=\s*(?:r?#*"([\w+.-]+)"|(\$))')
_COPIED = re.compile(_LINK + rb'kind\s*=\s*(?:r?#*"(?!dylib|framework|raw)|\$)')
"""The kind `static` in an attribute, or an argument of a macro."""

_INCLUDED = re.compile(rb"incbin|\.include[ \t]")
"""In the text of a directive: `build.include(…)` is C's."""

NAMED_BY_MACRO = "$"
"""Stands for a linked library whose name is an argument of a macro."""

_REVIEWED = re.compile(
    r".*/registry/src/[^/]+/(?:clap_derive-4|rustversion-1|(?:libc|linux-raw-sys|windows-sys)-\d"
    r"|foldhash-0|cpufeatures-0|libm-0)[^/]*"
)
"""Packages whose code has been read: what they read are cargo's own variables, in every key.
rustversion asks for the date too, for the words of an error, with which nothing is kept; foldhash
for the time, of which the watcher is told, as the state of its maps; cpufeatures which of two ways
to the same result the processor has; libm only while it is built. Others say what there is to be
called, and call nothing."""

_SEEN = re.compile(
    r".*/registry/src/[^/]+/(?:proc-macro-crate-\d|bevy_macro_utils-\d|chrono-0|jiff-\d|getrandom-0"
    r"|dotenvy-0|include_dir_macros-0|dirs-sys-0)[^/]*"
)
"""Packages that ask when a manifest, or the time zone, was changed, to know whether they have read
it before, and tell nobody; one that has other ways to random numbers than the one that it takes on
Linux; one that has a way to list all variables for whoever calls it, which is then seen there; one
that asks for the age of files by a feature; and one that, without HOME, looks for the user's number
in a file, which is seen."""

_UNSEEN_BY_FEATURE = {"include_dir_macros": "metadata"}

_OF_MANIFESTS = re.compile(r".*/registry/src/[^/]+/proc-macro-crate-3\.5\.0")
"""Read in full too: it reads the manifest of the package that is compiled and, if cargo can be run
and finds it, that of its workspace."""
_State = tuple[str, int, int, int]
_T = TypeVar("_T")


class MacroTrust:
    """Remembers what was found of each package, by its directory and what its files' times say."""

    def __init__(self, published: PublishedStates) -> None:
        self._published = published
        self._found: dict[_State, Reads] = {}
        self._exports: dict[_State, ReExports] = {}
        self._links: dict[_State, frozenset[str]] = {}
        self._copies: dict[_State, bool] = {}
        self._assembles: dict[_State, bool] = {}
        self._handed_on: dict[_State, frozenset[str] | None] = {}
        self._lock = threading.Lock()

    def reads(
        self, packages: Mapping[str, Collection[str]], *, compiled: str | None = None
    ) -> Reads:
        """What the code in some package directories may read. Raises OSError.

        `packages` has the features of each that are on. `compiled`: the package for which it runs,
        if cargo is where the compile can see it.
        """
        variables: set[str] = set()
        suspect: str | None = None
        asks_ages = False
        for package, features in packages.items():
            if compiled and _OF_MANIFESTS.fullmatch(package) and says_all_names(compiled):
                continue
            found = self._reads(package, features)
            if found.suspect is not None:
                said = f"{os.path.basename(package)} says {found.suspect}"
                if not found.is_seen:
                    return Reads(suspect=said, is_seen=False)
                suspect = suspect or said
            variables |= found.variables
            asks_ages |= found.asks_ages
        return Reads(variables=frozenset(variables), suspect=suspect, asks_ages=asks_ages)

    def hands_on(self, package: str, name: str) -> bool:
        """Whether others may come by a package's dependency through it. Raises OSError."""
        if not package:
            return True
        look = partial(_exports_of, package)
        return self._remembered(package, self._exports, look).hands_on(name)

    def linked_by(self, package: str) -> frozenset[str]:
        """The libraries that a package's own code has linked. Raises OSError."""
        return self._remembered(package, self._links, linked_libraries) if package else frozenset()

    def copies_libraries(self, package: str) -> bool:
        """Whether rustc may copy a library into the artifact, as a package's own code says. Raises
        OSError."""
        return self._remembered(package, self._copies, _copies_libraries)

    def assembles_files(self, package: str) -> bool:
        """Whether a package's code, or what its macros make, may have the assembler read a file.
        Raises OSError."""
        return self._remembered(package, self._assembles, _assembles_files)

    def hands_on_value(self, package: str, variable: str) -> bool:
        """Whether a package's macros ask for a variable where they are used. Raises OSError."""
        found = self._remembered(package, self._handed_on, partial(_values_handed_on, package))
        return found is None or variable in found

    def _reads(self, package: str, features: Collection[str]) -> Reads:
        if _REVIEWED.fullmatch(package):
            return Reads()
        if not package:
            return Reads(suspect="nobody knows what", is_seen=False)
        if not is_published(package) and (root := library_root(package)).startswith(("../", "/")):
            return Reads(suspect=f'path = "{root}"', is_seen=False)
        found = self._remembered(package, self._found, partial(_read_all, package))
        is_seen = _is_seen(package, features)
        return replace(found, is_seen=True, asks_ages=False) if is_seen else found

    def _remembered(
        self, package: str, known: dict[_State, _T], look: Callable[[Iterable[str]], _T]
    ) -> _T:
        if is_published(package):
            key = (package, *self._published.of(package))
        else:
            key = (package, *state_of(source.stat() for source in sources_of(package)))
        with self._lock:
            if key in known:
                return known[key]
        found = look(source.path for source in sources_of(package))
        with self._lock:
            known[key] = found
        return found


def _is_seen(package: str, features: Collection[str]) -> bool:
    """Whether a package reads nothing unseen, whatever its text has."""
    if not _SEEN.fullmatch(package):
        return False
    name, _, _ = os.path.basename(package).partition("-")
    by_feature = _UNSEEN_BY_FEATURE.get(name)
    return by_feature is None or not {by_feature, UNKNOWN_FEATURES}.intersection(features)


def linked_libraries(paths: Iterable[str]) -> frozenset[str]:
    """The names in `#[link(name = "…")]` of some sources. Raises OSError."""
    codes = (code for code in contents(paths).values() if b"link" in code)
    found = (name or by_macro for code in codes for name, by_macro in _LINKED.findall(code))
    return frozenset(name.decode() for name in found)


def _copies_libraries(paths: Iterable[str]) -> bool:
    return any(map(_COPIED.search, contents(paths).values()))


def _assembles_files(paths: Iterable[str]) -> bool:
    return any(map(_INCLUDED.search, contents(paths).values()))


def _exports_of(package: str, paths: Iterable[str]) -> ReExports:
    sources = contents(paths)
    found = re_exports_of(sources.values())
    return replace(found, is_unclear=found.is_unclear or has_more(package, sources))


def _values_handed_on(package: str, paths: Iterable[str]) -> frozenset[str] | None:
    """None where it may be any."""
    sources = with_included(contents(paths))
    if has_more(package, sources):
        return None
    return frozenset().union(*map(values_handed_on, sources.values()))


def _read_all(package: str, paths: Iterable[str]) -> Reads:
    """What a package's sources may read."""
    sources = contents(paths)
    for path, source in sources.items():
        more = None if is_published(path) else elsewhere(path, source, package, sources)
        if more is not None:
            return more
    return reads_of_all(sources)
