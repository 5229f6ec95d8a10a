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
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from wrapper.inputs.cargo_manifests import library_root, says_all_names
from wrapper.inputs.package_states import PublishedStates, state_of
from wrapper.inputs.re_exports import ReExports, re_exports_of
from wrapper.inputs.rust_text import (
    has_own_quote,
    without_comments,
    without_literals,
    without_quotes,
    without_tests,
)
from wrapper.inputs.unit_records import UNKNOWN_FEATURES
from wrapper.path_values import values_handed_on

_LINK = rb'link(?<!\wlink)\s*\(\s*(?:[^)\]"]|"[^"]*")*?\b'
"""Begins with a word: a search for one is ten times as quick as for where a word begins."""

_LINKED = re.compile(_LINK + rb'name\s*=\s*(?:r?#*"([\w+.-]+)"|(\$))')
_COPIED = re.compile(_LINK + rb'kind\s*=\s*(?:r?#*"(?!dylib|framework|raw)|\$)')
"""The kind `static` in an attribute, or an argument of a macro."""

NAMED_BY_MACRO = "$"
"""Stands for a linked library whose name is an argument of a macro."""

_NAMED = re.compile(rb'\benv\s*::\s*var(?:_os)?\s*\(\s*"(\w+)"\s*\)')
_MODULE = r"(?:env|fs|process|libc|rustix|nix|windows_sys|linux_raw_sys)"
_TYPE = r"(?:File|OpenOptions|TcpStream|UdpSocket|UnixStream)"
_LOOK = (
    r"(?:exists|try_exists|metadata|symlink_metadata|canonicalize|read_dir|read_link"
    r"|is_file|is_dir|is_symlink)"
)
_READS = re.compile(
    rf"\b(?!process\s*::\s*(?:abort|exit)\b){_MODULE}\s*::|\b(?:{_MODULE}|{_TYPE})\s+as\b"
    rf"|\b{_TYPE}\s*::|\bextern\s*(?:r?#*\"[^\"]*\"#*\s*)?\{{|\b(?:naked_|global_)?asm!"
    rf"|\.\s*{_LOOK}\s*\(\s*\)|::\s*{_LOOK}\b|\bPath\s+as\b"
    r"|\bSystemTime\s*(?:::\s*now|as)\b|\bUNIX_EPOCH\s*\.\s*elapsed\b".encode()
)
_ELSEWHERE = re.compile(
    rb'\bpath\s*=\s*"(?:[^"]*\.\./|[^"]*(?<!\.rs)")|\bstd\s*::\s*\$'
    rb'|\binclude\s*!\s*[(\[{]\s*(?!"[^"]*\.rs")|\binclude\s*!\s*[(\[{]\s*"[^"]*\.\./'
)
"""Code that is not among the package's sources, or is put together. A published package has all of
its code itself."""

_ANYWHERE = re.compile(rb'#\s*\[[^\]]*\bpath\s*=\s*(?:r#*"|"/|"[^"]*\\)')
"""The same in forms that are not looked into."""

_INCLUDED = rb'\binclude\s*!\s*[(\[{]\s*"((?:[\w-][\w.-]*/)*[\w-][\w.-]*)"'
_KNOWN = re.compile(
    rb'\binclude\s*!\s*[(\[{]\s*concat\s*!\s*[(\[{]\s*env\s*!\s*[(\[{]\s*"OUT_DIR"|' + _INCLUDED
)
"""Code that a build script makes, and what lies beside or below a source."""

_UPWARDS = re.compile(rb'\bpath\s*=\s*"((?:\.\./)+)((?:[\w-]+/)*[\w-]+\.rs)"')

_MAYBE = re.compile(
    rf"\b(?:{_MODULE}|{_TYPE})\s*(?:::|/|as\b)|\bextern\s*[r\"{{/]|asm!"
    rf"|\.\s*{_LOOK}\s*[(/]|(?:::|/)\s*{_LOOK}\b|\bPath\s*(?:as\b|/)"
    r"|\b(?:SystemTime|UNIX_EPOCH)\b".encode()
)
"""Finds at least what `_READS` and `_NAMED` find, also with comments in between, and is quick."""

_OF_THE_SYSTEM = (
    rb"(?:clock|s?rand(?:om)?|environ|getpgrp|getsid|getlogin(?:_r)?|getgroups|getcpu"
    rb"|getppid|gete?[ug]id|getres[ug]id|getauxval)"
)
"""Functions of the C library that say something of the user or the machine, and are not told of
(wrapper/shim/asked.c)."""

_UNSEEN = re.compile(
    rb"\benv\s*::\s*(?:\{[^}]*\b)?vars(?:_os)?\b|\bvars(?:_os)?\s*\(\s*\)"
    rb"|\b(?:libc|unistd|rustix\s*::\s*\w+)\s*::\s*(?:\{[^}]*\b)?"
    + _OF_THE_SYSTEM
    + rb"\b|\bextern\s*(?:r?#*\"[^\"]*\"#*\s*)?\{[^}]*\b(?:fn|static)\s+(?:mut\s+)?"
    + _OF_THE_SYSTEM
    + rb"\b"
    rb"|\.\s*(?:accessed|atime(?:_nsec)?)\s*\(\s*\)|\bst_atim\w*"
    rb"|\bMetadata(?:Ext)?\s*>?\s*::\s*(?:accessed|atime)"
    rb"|\barc4random\w*|\b_?(?:rdtsc|rdrand|rdseed)\w*"
)
"""What may be read without the watcher's being told, by other than names in a key."""

_AGES = re.compile(
    rb"\.\s*(?:modified|created|[mc]time(?:_nsec)?)\s*\(\s*\)|\bst_[mc]tim\w*"
    rb"|\bMetadata(?:Ext)?\s*>?\s*::\s*(?:modified|created|[mc]time)"
)
"""Asks when a file was changed or made."""

_ASM = re.compile(rb"\b(?:naked_|global_)?asm!")
_TOLD = re.compile(
    rb"\b(?:SystemTime|clock_gettime|gettimeofday|gethostname|uname|getpid|getrandom|getentropy)\b"
    rb"|\bUNIX_EPOCH\s*\.\s*elapsed\b|\bprocess\s*::\s*id\b"
)
"""What the watcher is told of where it is asked of the C library, and not by code's own calls."""

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
_ROOTS = ("/lib", "/main", "/mod")
"""Sources whose modules lie beside them, and not in a directory of their name."""
_PUBLISHED = re.compile(r"/registry/src/[^/]*-[0-9a-f]{16}/[^/]+")
_State = tuple[str, int, int, int]
_T = TypeVar("_T")
_WORDS = 60
_OF_OTHER_TARGETS = ("tests", "benches", "examples", "fuzz", "build.rs")
_NOT_COMPILED_IN = ("target", ".git")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What code may read: variables by name, and a word that says that there may be more.

    `is_seen`: a watcher would see the rest, but for the age of files, of which `asks_ages` tells.
    """

    variables: frozenset[str] = frozenset()
    suspect: str | None = None
    is_seen: bool = True
    asks_ages: bool = False


class MacroTrust:
    """Remembers what was found of each package, by its directory and what its files' times say."""

    def __init__(self, published: PublishedStates) -> None:
        self._published = published
        self._found: dict[_State, Reads] = {}
        self._exports: dict[_State, ReExports] = {}
        self._links: dict[_State, frozenset[str]] = {}
        self._copies: dict[_State, bool] = {}
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


def is_published(package: str) -> bool:
    """Whether a package's directory is a registry's, unpacked by cargo."""
    return _PUBLISHED.search(package) is not None


def linked_libraries(paths: Iterable[str]) -> frozenset[str]:
    """The names in `#[link(name = "…")]` of some sources. Raises OSError."""
    codes = (code for code in _contents(paths).values() if b"link" in code)
    found = (name or by_macro for code in codes for name, by_macro in _LINKED.findall(code))
    return frozenset(name.decode() for name in found)


def _copies_libraries(paths: Iterable[str]) -> bool:
    return any(map(_COPIED.search, _contents(paths).values()))


def _exports_of(package: str, paths: Iterable[str]) -> ReExports:
    sources = _contents(paths)
    found = re_exports_of(sources.values())
    return replace(found, is_unclear=found.is_unclear or _has_more(package, sources))


def _values_handed_on(package: str, paths: Iterable[str]) -> frozenset[str] | None:
    """None where it may be any."""
    sources = _with_included(_contents(paths))
    if _has_more(package, sources):
        return None
    return frozenset().union(*map(values_handed_on, sources.values()))


def _with_included(sources: dict[str, bytes]) -> dict[str, bytes]:
    """The same with the files of other names that they include, from beside or below. Raises
    OSError."""
    found, pending = dict(sources), list(sources)
    while pending:
        path = pending.pop()
        names = re.findall(_INCLUDED, found[path])
        beside = {os.path.join(os.path.dirname(path), os.fsdecode(name)) for name in names}
        more = [each for each in beside - found.keys() if os.path.isfile(each)]
        found |= _contents(more)
        pending += more
    return found


def _has_more(package: str, sources: Mapping[str, bytes]) -> bool:
    """Whether a package of the user's has code that is none of these sources, but for what its
    build script makes, which is taken to have no macros for others that ask for paths."""
    if is_published(package):
        return False
    written = ((path, _KNOWN.sub(b"", source)) for path, source in sources.items())
    return any(_elsewhere(path, source, package, sources) for path, source in written)


def _contents(paths: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for path in paths:
        with open(path, "rb") as file:
            found[path] = file.read()
    return found


def _read_all(package: str, paths: Iterable[str]) -> Reads:
    """What a package's sources may read."""
    sources = _contents(paths)
    for path, source in sources.items():
        elsewhere = None if is_published(path) else _elsewhere(path, source, package, sources)
        if elsewhere is not None:
            return elsewhere
    found = [_reads_of(without_comments(each)) for each in sources.values() if _MAYBE.search(each)]
    if any(each.suspect is not None for each in found):
        found = _read_closely(sources)
    suspects = [each for each in found if each.suspect is not None]
    by_itself = _asks_by_itself(sources.values()) if suspects else None
    if by_itself is not None:
        suspects.append(Reads(suspect=by_itself, is_seen=False))
    # what no watcher sees is the better reason
    suspects.sort(key=lambda each: each.is_seen)
    return Reads(
        variables=frozenset().union(*(each.variables for each in found)),
        suspect=suspects[0].suspect if suspects else None,
        is_seen=not suspects or suspects[0].is_seen,
        asks_ages=any(each.asks_ages for each in suspects),
    )


def _elsewhere(path: str, source: bytes, package: str, sources: Collection[str]) -> Reads | None:
    """What code may read of which one source says that it lies where they are not, if it does."""
    anywhere = _ANYWHERE.search(without_comments(source)) if b"path" in source else None
    if anywhere is not None:
        said = anywhere.group().decode(errors="replace")[-_WORDS:]
        return Reads(suspect=said, is_seen=False)
    if not _ELSEWHERE.search(source):
        return None

    def without_those_within(match: re.Match[bytes]) -> bytes:
        ups, name = (os.fsdecode(part) for part in match.groups())
        is_within = _stays_within(path, ups.count("/"), name, package, sources)
        return b"" if is_within else match.group()

    match = _ELSEWHERE.search(_UPWARDS.sub(without_those_within, without_comments(source)))
    if match is None:
        return None
    said = match.group().decode(errors="replace").strip()
    return Reads(suspect=said, is_seen="../" not in said)


def _stays_within(path: str, count: int, name: str, package: str, sources: Collection[str]) -> bool:
    """Whether a module's file is one of the sources, however many modules around it take a step up
    each: those of one file have directories of their own. Links may lead elsewhere."""
    directory = os.path.dirname(path)
    below = os.path.relpath(directory, package)
    if os.path.realpath(directory) != os.path.normpath(f"{os.path.realpath(package)}/{below}"):
        return False
    with os.scandir(directory) as entries:
        if any(entry.is_symlink() for entry in entries):
            return False
    files = [f"{directory}/{name}"]
    for _ in range(count):
        if directory == package:
            return False
        directory = os.path.dirname(directory)
        files.append(f"{directory}/{name}")
    there = [file for file in files if os.path.exists(file)]
    return bool(there) and all(file in sources for file in there)


def _asks_by_itself(sources: Iterable[bytes]) -> str | None:
    """What code with system calls of its own may ask for, of that which libraries tell of."""
    codes = [without_comments(each) for each in sources]
    if not any(map(_ASM.search, codes)):
        return None
    return next((said.group().decode() for said in map(_TOLD.search, codes) if said), None)


def _read_closely(sources: Mapping[str, bytes]) -> list[Reads]:
    """What the files that are not for tests alone may read by themselves."""
    codes = {path: without_comments(source) for path, source in sources.items()}
    cuts_quotes = not any(has_own_quote(code) for code in codes.values())
    wanted = sorted(codes.keys() - _of_tests(codes))
    return [_reads_of(codes[path], cuts_quotes=cuts_quotes) for path in wanted]


def _of_tests(sources: Mapping[str, bytes]) -> set[str]:
    """The files of modules that are declared for tests, and nowhere named besides."""
    found: set[str] = set()
    texts = {path: without_tests(without_literals(code)) for path, code in sources.items()}
    for path, (_, names) in texts.items():
        stem, _ = os.path.splitext(path)
        directory = os.path.dirname(path) if stem.endswith(_ROOTS) else stem
        for name in names:
            module = os.path.join(directory, name)
            files = {each for each in sources if each.startswith((f"{module}.rs", f"{module}/"))}
            others = sources.keys() - files
            declared = re.compile(rf"\bmod\s+{name}\s*;".encode())
            named = re.compile(rf"\b{name}(?:\.rs|/)".encode())
            if not any(declared.search(texts[o][0]) or named.search(sources[o]) for o in others):
                found |= files
    return found


def sources_of(package: str) -> list[os.DirEntry[str]]:
    """The Rust sources of a package that may be compiled in. Raises OSError."""
    top, below, _ = library_root(package).partition("/")
    is_apart = below != "" and top not in _OF_OTHER_TARGETS
    left_out = _NOT_COMPILED_IN + (_OF_OTHER_TARGETS if is_apart else ())
    found = []
    followed = {os.path.realpath(package)}
    pending = [package]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if directory == package and entry.name in left_out:
                    continue
                if entry.is_symlink() and entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in followed:
                        followed.add(real)
                        pending.append(entry.path)
                elif entry.is_dir():
                    pending.append(entry.path)
                elif entry.name.endswith((".rs", ".inc")) and entry.is_file():
                    found.append(entry)
    return found


def reads_of(source: bytes) -> Reads:
    """What one source file may read."""
    return _reads_of(without_comments(source), cuts_quotes=not has_own_quote(source))


def _reads_of(code: bytes, *, cuts_quotes: bool = False) -> Reads:
    variables = frozenset(name.decode() for name in _NAMED.findall(code))
    text, _ = without_tests(without_literals(_NAMED.sub(_blanks, code)))
    text = without_quotes(text) if cuts_quotes else text
    unseen = _UNSEEN.search(text)
    ages = _AGES.search(text)
    match = unseen or ages or _READS.search(text)
    suspect = None
    if match is not None:
        said = " ".join(code[match.start() : match.end()].decode(errors="replace").split())
        suspect = said if len(said) <= _WORDS else f"… {said[-_WORDS:]}"
    is_seen, asks_ages = unseen is None, ages is not None
    return Reads(variables=variables, suspect=suspect, is_seen=is_seen, asks_ages=asks_ages)


def _blanks(match: re.Match[bytes]) -> bytes:
    return b" " * len(match.group())
