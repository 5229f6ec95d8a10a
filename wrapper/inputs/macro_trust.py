"""Do the macros of a dependency compute, and nothing else?

What a macro reads with `std::env` or `std::fs` no dep-info names, and a macro that copes with an
absence gives another result, and no error, where a file or variable is hidden. So a macro whose
sources, and those of all it is made of, speak of neither may run in a sandbox or on a worker;
others run as cargo started them, and what they made is not kept. Variables that they name outright
go into the key. Text alone decides, and in doubt against trust.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"(?P<comment>//[^\n]*|/\*.*?\*/)"
    rb"|b?'(?:\\[^\n']*.|[^'\\\n])'"
    rb'|r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"',
    re.DOTALL,
)
_NAMED = re.compile(rb'\benv\s*::\s*var(?:_os)?\s*\(\s*"(\w+)"\s*\)')
_READS = re.compile(
    rb"\b(?:env|fs|process|libc|rustix|nix|windows_sys|linux_raw_sys)\s*::"
    rb"|\b(?:File|OpenOptions|TcpStream|UdpSocket|UnixStream)\s*::"
    rb"|\bextern\s+\"|\basm!|\bglobal_asm!|\bnaked_asm!"
    rb"|\.\s*(?:exists|try_exists|metadata|symlink_metadata|canonicalize|read_dir|read_link"
    rb"|is_file|is_dir|is_symlink)\s*\(\s*\)"
)
_REVIEWED = re.compile(r".*/registry/src/[^/]+/clap_derive-4[^/]*")
"""Packages whose code has been read: what they read are cargo's own variables, in every key."""
_NOT_COMPILED_IN = ("tests", "benches", "examples", "target", ".git", "fuzz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What code may read: variables by name, and a word that says that there may be more."""

    variables: frozenset[str] = frozenset()
    suspect: str | None = None


class MacroTrust:
    """Remembers what was found of each package, by its directory and newest source."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int], Reads] = {}
        self._lock = threading.Lock()

    def reads(self, packages: Iterable[str]) -> Reads:
        """What the code in some package directories may read. Raises OSError."""
        variables: set[str] = set()
        for package in packages:
            found = self._reads(package)
            if found.suspect is not None:
                return Reads(suspect=f"{os.path.basename(package)} says {found.suspect}")
            variables |= found.variables
        return Reads(variables=frozenset(variables))

    def _reads(self, package: str) -> Reads:
        if _REVIEWED.fullmatch(package):
            return Reads()
        if not package:
            return Reads(suspect="nobody knows what")
        if "/registry/src/" in package:  # unpacked once, and never changed
            sources, key = [], (package, 0, 0)
        else:
            sources = _sources(package)
            newest = max((os.stat(path).st_mtime_ns for path in sources), default=0)
            key = (package, len(sources), newest)
        with self._lock:
            if key in self._found:
                return self._found[key]
        found = _read_all(sources or _sources(package))
        with self._lock:
            self._found[key] = found
        return found


def _read_all(sources: Iterable[str]) -> Reads:
    variables: set[str] = set()
    for path in sources:
        with open(path, "rb") as file:
            found = reads_of(file.read())
        if found.suspect is not None:
            return found
        variables |= found.variables
    return Reads(variables=frozenset(variables))


def _sources(package: str) -> list[str]:
    found = []
    for directory, names, files in os.walk(package):
        if directory == package:
            names[:] = [name for name in names if name not in _NOT_COMPILED_IN]
        found += [
            os.path.join(directory, name)
            for name in files
            if name.endswith(".rs") and name != "build.rs"
        ]
    return found


def reads_of(source: bytes) -> Reads:
    """What one source file may read."""
    variables = frozenset(name.decode() for name in _NAMED.findall(source))
    code = _NAMED.sub(b" ", _TOKEN.sub(_without_comments, source))
    match = _READS.search(code)
    suspect = None if match is None else match.group().decode(errors="replace").strip()
    return Reads(variables=variables, suspect=suspect)


def _without_comments(match: re.Match[bytes]) -> bytes:
    return b" " if match.group("comment") else match.group()
