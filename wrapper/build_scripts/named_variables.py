"""What a build script, and what it reads and runs, may call variables. Pure."""

from __future__ import annotations

import mmap
import re

from wrapper.build_scripts.elf import loaded_parts, symbol_names
from wrapper.build_scripts.environment import CI_SERVICES, NO_CHANCE, RUN_OF_CI, SESSION

_OF_CI_IN_FILES = re.compile(rf"\b((?:{CI_SERVICES})_(?!\w)|(?:{RUN_OF_CI})\b)".encode())
"""Names, and beginnings of names that are put together."""

_ASKED_IN_FILES = re.compile(
    rb"""(?:ENV\{\s*['"]?|\$ENV\.|\$(?!ENV\b)[({]?|getenv\(\s*['"]|env[.(]|printenv\s+|\s-v\s+"""
    rb"""|ifn?def\s+|\$\((?:origin|value|flavor)\s+)([A-Z_][A-Z0-9_]+)"""
)
"""A variable in the languages of shells, make, CMake, Perl, Python, JavaScript, Tcl and jq."""

_SAID_IN_FILES = re.compile(rb"""['"{@]([A-Z_][A-Z0-9_]+)(?=['"}@])|%\(([A-Z_][A-Z0-9_]+)\)s""")
"""The name as a word of its own, for what has the whole environment by another name."""

_OF_C = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".m", ".S", ".inc")
"""Ends of names of files in which such words are anything."""

_TOKEN = re.compile(rb"[A-Z_][A-Z0-9_]+")
_DECLARED = re.compile(rb"^cargo::?rerun-if-env-changed=(.+)$", re.MULTILINE)


def tokens_of(program: bytes) -> str:
    """All that a program may call a variable, as one text in which names are searched.

    Not what is for debuggers and linkers alone: symbols of Rust have all short names within them,
    and so have machine code and tables by chance.
    """
    code, data = loaded_parts(program)
    found = {token for token in _TOKEN.findall(code) if len(token) >= NO_CHANCE}
    found.update(_TOKEN.findall(data))
    return " ".join(sorted({token.decode() for token in found}))


def how_variables_are_looked_at(program: bytes) -> str:
    """`lists` where a program of Rust may go through all of them, by `std::env::vars`; `stripped`
    where it has no names of functions to tell; else nothing."""
    names = symbol_names(program)
    if b"3std" not in names:
        return "stripped"
    return "lists" if b"3std3env4vars" in names else ""


def named_in_file(name: str, content: bytes | mmap.mmap) -> set[str]:
    """The variables of a session or a build service that a script in some language may ask for.

    Not the shell itself, which Makefiles and configure scripts set.
    """
    words = _ASKED_IN_FILES.findall(content)
    if not name.endswith(_OF_C):
        words += [one or other for one, other in _SAID_IN_FILES.findall(content)]
    asked = {word.decode() for word in words} - {"SHELL"}
    found = {name for name in asked if SESSION.fullmatch(name)}
    return found | {name.decode() for name in _OF_CI_IN_FILES.findall(content)}


def declared(stdout: bytes) -> list[str]:
    """The variables that a build script says it read."""
    names = {name.decode(errors="replace").strip() for name in _DECLARED.findall(stdout)}
    return sorted(names)
