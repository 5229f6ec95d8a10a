"""What Rust code may read while it runs, told by its text alone, and in doubt more than it does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wrapper.inputs.rust_text import (
    has_own_quote,
    without_comments,
    without_literals,
    without_quotes,
    without_tests,
)

_NAMED = re.compile(rb'\benv\s*::\s*var(?:_os)?\s*\(\s*"(\w+)"\s*\)')
_MODULES = ("env", "fs", "process", "libc", "rustix", "nix", "windows_sys", "linux_raw_sys")
_TYPES = ("File", "OpenOptions", "TcpStream", "UdpSocket", "UnixStream")
_LOOK = (
    r"(?:r#)?(?:exists|try_exists|metadata|symlink_metadata|canonicalize|read_dir|read_link"
    r"|is_file|is_dir|is_symlink)"
)
_BLOCK = r"\s*(?:r?#*\"[^\"]*\"#*\s*)?\{"
"""After `extern`."""


def _any_of(patterns: Iterable[str], words: Mapping[str, str]) -> re.Pattern[bytes]:
    """Finds any of some patterns, and of words with what follows them. A search for what begins
    with a certain character is many times as quick as for where a word begins."""
    begun = (rf"{word}(?<!\w{word}){rest}" for word, rest in words.items())
    return re.compile("|".join([*patterns, *begun]).encode())


_READS = _any_of(
    [rf"\.\s*{_LOOK}\s*\(\s*\)", rf"::\s*{_LOOK}\b"],
    dict.fromkeys((*_MODULES, *_TYPES), r"(?:\s*::|\s+as\b)")
    | dict.fromkeys(("asm!", "naked_asm!", "global_asm!"), "")
    | {
        "process": r"(?:(?!\s*::\s*(?:abort|exit)\b)\s*::|\s+as\b)",
        "extern": _BLOCK,
        "Path": r"\s+as\b",
        "SystemTime": r"\s*(?:::\s*now|as)\b",
        "UNIX_EPOCH": r"\s*\.\s*elapsed\b",
    },
)
_MAYBE = _any_of(
    ["asm!", rf"\.\s*{_LOOK}\s*[(/]", rf"::\s*{_LOOK}\b", rf"/\s*{_LOOK}\b"],
    dict.fromkeys((*_MODULES, *_TYPES), r"\s*(?:::|/|as\b)")
    | dict.fromkeys(("SystemTime", "UNIX_EPOCH"), r"\b")
    | {"extern": r"\s*[r\"{/]", "Path": r"\s*(?:as\b|/)"},
)
"""Finds at least what `_READS` and `_NAMED` find, also with comments in between, and is quick."""

_OF_THE_SYSTEM = (
    r"(?:clock|s?rand(?:om)?|environ|getpgrp|getsid|getlogin(?:_r)?|getgroups|getcpu"
    r"|getppid|gete?[ug]id|getres[ug]id|getauxval)\b"
)
"""Functions of the C library that say something of the user or the machine, and are not told of
(wrapper/shim/asked.c)."""

_IMPORTED = r"\s*::\s*(?:\{[^}]*\b)?"
_UNSEEN = _any_of(
    [r"\.\s*(?:r#)?(?:accessed|atime(?:_nsec)?)\s*\(\s*\)"],
    {
        "env": rf"{_IMPORTED}vars(?:_os)?\b",
        "vars": r"(?:_os)?\s*\(\s*\)",
        "libc": f"{_IMPORTED}{_OF_THE_SYSTEM}",
        "unistd": f"{_IMPORTED}{_OF_THE_SYSTEM}",
        "rustix": rf"\s*::\s*\w+{_IMPORTED}{_OF_THE_SYSTEM}",
        "extern": rf"{_BLOCK}[^}}]*\b(?:fn|static)\s+(?:mut\s+)?{_OF_THE_SYSTEM}",
        "Metadata": r"(?:Ext)?\s*>?\s*::\s*(?:accessed|atime)",
    }
    | dict.fromkeys(("st_atim", "arc4random"), r"\w*")
    | dict.fromkeys(("rdtsc", "rdrand", "rdseed", "_rdtsc", "_rdrand", "_rdseed"), r"\w*"),
)
"""What may be read without the watcher's being told, by other than names in a key."""

_AGES = _any_of(
    [r"\.\s*(?:r#)?(?:modified|created|[mc]time(?:_nsec)?)\s*\(\s*\)"],
    {
        "st_mtim": r"\w*",
        "st_ctim": r"\w*",
        "Metadata": r"(?:Ext)?\s*>?\s*::\s*(?:modified|created|[mc]time)",
    },
)
"""Asks when a file was changed or made."""

_ASM = re.compile(rb"\b(?:naked_|global_)?asm!")
_TOLD = re.compile(
    rb"\b(?:SystemTime|clock_gettime|gettimeofday|gethostname|uname|getpid|getrandom|getentropy)\b"
    rb"|\bUNIX_EPOCH\s*\.\s*elapsed\b|\bprocess\s*::\s*id\b"
)
"""What the watcher is told of where it is asked of the C library, and not by code's own calls."""

_ROOTS = ("/lib", "/main", "/mod")
"""Sources whose modules lie beside them, and not in a directory of their name."""

_WORDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What code may read: variables by name, and a word that says that there may be more.

    `is_seen`: a watcher would see the rest, but for the age of files, of which `asks_ages` tells.
    """

    variables: frozenset[str] = frozenset()
    suspect: str | None = None
    is_seen: bool = True
    asks_ages: bool = False


def reads_of_all(sources: Mapping[str, bytes]) -> Reads:
    """What sources, by their paths, may read that make up the code of one package."""
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


def _reads_of(code: bytes, *, cuts_quotes: bool = False) -> Reads:
    variables = frozenset(name.decode() for name in _NAMED.findall(code))
    text, _ = without_tests(without_literals(_NAMED.sub(_blanks, code)))
    text = without_quotes(text) if cuts_quotes else text
    unseen = _UNSEEN.search(text)
    ages = _AGES.search(text)
    match = unseen or ages or _READS.search(text)
    suspect = None
    if match is not None:
        suspect = cropped(code[match.start() : match.end()])
    is_seen, asks_ages = unseen is None, ages is not None
    return Reads(variables=variables, suspect=suspect, is_seen=is_seen, asks_ages=asks_ages)


def cropped(code: bytes) -> str:
    """The last words of some code, in one line."""
    said = " ".join(code.decode(errors="replace").split())
    return said if len(said) <= _WORDS else f"… {said[-_WORDS:]}"


def _blanks(match: re.Match[bytes]) -> bytes:
    return b" " * len(match.group())
