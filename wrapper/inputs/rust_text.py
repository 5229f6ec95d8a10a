"""Rust sources as text of the same length, in which blanks stand for what a macro does not run:
comments, literals, modules for tests, and code that `quote!` makes for others.

Honest code is taken for what it looks like: who hides what a macro does can hide it from anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

OF_STD = rb"(?:(?:::\s*)?(?:core|std)\s*::\s*)?"
"""What may stand before the name of a macro of the standard library's."""

_RAW = b"|".join(b'(?<=r%s").*?"%s' % (hashes, hashes) for hashes in (b"#" * n for n in range(9)))
_TOKEN = re.compile(
    # each begins with one character of its own: that is what a search is quick for
    rb"//[^\n]*|/\*|'(?:\\[^\n']*.|[^'\\\n])'" + rb'|"(?:' + _RAW + rb'|(?:\\.|[^"\\])*")',
    re.DOTALL,
)
_BLOCK_END = re.compile(rb"/\*|\*/")
_TEST_MODULE = re.compile(
    rb"#\s*\[\s*cfg\s*\(\s*(?:test\s*\)|all\s*\(\s*test\s*,[^\]]*\))\s*\]"
    rb"\s*(?:#\s*\[[^\]]*\]\s*)*(?:pub\s*(?:\([^)]*\)\s*)?)?\bmod\s+(?P<name>\w+)\s*(?P<open>[{;])"
)
_TEST = re.compile(
    rb"#\s*\[\s*test\s*\]\s*(?:#\s*\[[^\]]*\]\s*)*(?:pub\s*(?:\([^)]*\)\s*)?)?fn\s+\w+[^{;]*\{"
)
_QUOTE = re.compile(
    rb"\b(?:parse_)?quote(?P<spanned>_spanned)?\s*!\s*(?P<open>[({\[])",
)
_OTHER_QUOTE = re.compile(
    rb"\bmacro_rules\s*!\s*(?:parse_)?quote(?:_spanned)?\b|\bas\s+(?:parse_)?quote(?:_spanned)?\b"
)
_BRACKET = re.compile(rb"[(){}\[\]]")
_BLANKS = bytes(each if each == ord("\n") else ord(" ") for each in range(256))


def without_comments(source: bytes) -> bytes:
    """The source with blanks in place of comments; block comments may lie in each other."""
    found = bytearray(source)
    for start, end, is_comment in _tokens(source):
        if is_comment:
            found[start:end] = _blanks(source[start:end])
    return bytes(found)


def without_literals(code: bytes) -> bytes:
    """Code without comments with blanks between the quotes of its literals."""
    found = bytearray(code)
    for start, end, _ in _tokens(code):
        first, last = code.find(b'"', start, end), code.rfind(b'"', start, end)
        if code[end - 1 : end] == b"'":
            first, last = code.find(b"'", start, end), end - 1
        found[first + 1 : last] = _blanks(code[first + 1 : last])
    return bytes(found)


def without_tests(text: bytes) -> tuple[bytes, set[str]]:
    """Text without literals, and without its tests; the names of the modules for them elsewhere."""
    elsewhere = set()
    for match in list(_TEST_MODULE.finditer(text)):
        if match.group("open") == b";":
            elsewhere.add(match.group("name").decode())
        else:
            text = _cut(text, match.start(), _closing(text, match.end()))
    text = _TEST_MODULE.sub(lambda m: _blanks(m.group()), text)
    for match in list(_TEST.finditer(text)):
        text = _cut(text, match.start(), _closing(text, match.end()))
    return text, elsewhere


def without_quotes(text: bytes) -> bytes:
    """Text without literals, and without the code that it makes."""
    for match in list(_QUOTE.finditer(text)):
        start, end = match.end(), _closing(text, match.end())
        if match.group("spanned"):  # what lies before the arrow is run
            start = max(start, text.find(b"=>", start, end))
        text = _cut(text, start, end)
    return text


def has_own_quote(text: bytes) -> bool:
    """Whether what is called `quote!` may be another macro than that of the crate quote."""
    return _OTHER_QUOTE.search(text) is not None


def _tokens(source: bytes) -> Iterator[tuple[int, int, bool]]:
    """Comments and literals: where each begins and ends, and whether it is a comment."""
    position: int | None = 0
    while position is not None:
        tokens, position = _TOKEN.finditer(source, position), None
        for match in tokens:
            start, end = match.span()
            is_block = source.startswith(b"/*", start)
            if is_block:
                end = position = _end_of_block(source, end)
            yield start, end, is_block or source.startswith(b"/", start)
            if is_block:
                break


def _end_of_block(source: bytes, position: int) -> int:
    depth = 1
    for match in _BLOCK_END.finditer(source, position):
        depth += 1 if match.group() == b"/*" else -1
        if depth == 0:
            return match.end()
    return len(source)


def _closing(text: bytes, position: int) -> int:
    """Where the bracket that was opened just before `position` is closed; `position` if nowhere."""
    depth = 1
    for match in _BRACKET.finditer(text, position):
        depth += 1 if match.group() in (b"(", b"{", b"[") else -1
        if depth == 0:
            return match.start()
    return position


def _cut(text: bytes, start: int, end: int) -> bytes:
    return text[:start] + _blanks(text[start:end]) + text[end:]


def _blanks(text: bytes) -> bytes:
    return text.translate(_BLANKS)
