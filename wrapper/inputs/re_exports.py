"""Which of its dependencies a crate hands on: what others can name through it.

A macro of a dependency's dependency runs in a compile only if the crates in between have it in a
`pub use` or `pub extern crate`; exported macro_rules need that too, for their `$crate::` paths. So
a crate whose text has none keeps to itself what it is made with. In doubt it hands on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wrapper.inputs.rust_text import without_comments, without_literals, without_tests

_STATEMENT = re.compile(
    rb"(?P<public>\bpub\b\s*(?:\([^)]*\)\s*)?)?\b(?:use|extern\s+crate)\s+(?P<what>[^;]*);"
)
_NAME = re.compile(rb"\w+")
_NO_NAMES = frozenset({b"crate", b"self", b"super", b"std", b"core", b"alloc", b"as", b"_"})
_UNCLEAR = re.compile(
    rb"\binclude\s*!|\bdecl_macro\b|\buse\b[^;]*\$(?!\s*crate\b)|\bextern\s+crate\s+\$"
)
"""Text from elsewhere, macros that see what their callers do not, and names that come later."""

_CANDIDATE = re.compile(rb"\buse\b|\bextern\s*(?:/|crate\b)|\binclude\b|\bdecl_macro\b")
"""Finds at least where what the others find begins, in text with comments and literals."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """One `use` or `extern crate`, with all names in it."""

    is_public: bool
    is_glob: bool
    names: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class ReExports:
    """The imports of a crate; `is_unclear`: there may be others."""

    statements: tuple[_Statement, ...]
    is_unclear: bool

    def hands_on(self, name: str) -> bool:
        """Whether others may come by what is called `name` here through this crate."""
        if self.is_unclear:
            return True
        names = {name.encode()}
        private = [each for each in self.statements if not each.is_public]
        while True:  # what was imported by one statement may be named in the next
            found = [each for each in private if each.names & names]
            if any(each.is_glob for each in found):
                return True
            more = frozenset[bytes]().union(*(each.names for each in found)) - names
            if not more:
                break
            names |= more
        return any(each.is_public and each.names & names for each in self.statements)


def re_exports_of(sources: Iterable[bytes]) -> ReExports:
    """What a crate's sources import."""
    found: list[_Statement] = []
    is_unclear = False
    for source in sources:
        text = _text_of(source)
        is_unclear = is_unclear or _UNCLEAR.search(text) is not None
        found += (_statement(match) for match in _STATEMENT.finditer(text))
    return ReExports(tuple(found), is_unclear)


def _text_of(source: bytes) -> bytes:
    """What matters of a source: of web-sys' many megabytes no more than the beginnings."""
    ends = [match.end() for match in _CANDIDATE.finditer(source)]
    if not ends:
        return b""
    beginning = source[: source.find(b";", ends[-1]) + 1]
    if beginning and b"test" not in beginning:
        text = without_literals(without_comments(beginning))
        # and it was in no comment or literal
        if text.endswith(b";") and text.count(b'"') % 2 == 0:
            return text
    text, _ = without_tests(without_literals(without_comments(source)))
    return text


def _statement(match: re.Match[bytes]) -> _Statement:
    what = match.group("what")
    return _Statement(
        is_public=match.group("public") is not None or b"pub" in what.split(),
        is_glob=b"*" in what,
        names=frozenset(_NAME.findall(what)) - _NO_NAMES,
    )
