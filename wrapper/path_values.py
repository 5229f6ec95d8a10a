"""Does a crate use the value of a path-valued variable, or only read files through it?

`include!(concat!(env!("OUT_DIR"), "/x.rs"))` and `include!(env!("MADE_BY_BUILD_RS"))` give the same
artifact wherever the file lies; `env!("CARGO_MANIFEST_DIR")` by itself puts this checkout's path
into the program. The source's text tells them apart well enough to say "certainly only files";
anything else counts as a use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from wrapper.inputs.rust_text import OF_STD, without_comments, without_literals, without_tests

_INCLUDE = re.compile(
    rb"(?<!\w)include(?:_str|_bytes)?!\s*[(\[{]\s*(?:" + OF_STD + rb"concat!\s*[(\[{]\s*)?"
    + OF_STD + rb"(?:option_)?env!\s*[(\[{]\s*(?:r#*)?$"
)  # fmt: skip
_TAKEN = re.compile(
    rb"(?<!\w)(?:PathBuf\s*::\s*from|Path\s*::\s*new)\s*\(\s*(?:" + OF_STD
    + rb"concat!\s*\(\s*)?" + OF_STD + rb"env!\s*[(\[{]\s*(?:r#*)?$"
)  # fmt: skip
"""Taken by the program as it is: without optimizations it stands in what is made of that, if it is
of any use there."""

_CALLED = re.compile(rb"[\w>]\s*\(\s*(?:r#*)?$")
"""`env::var("NAME")` and the like ask when the program runs."""

_ASKED = re.compile(rb'\b(?:option_)?env!\s*[(\[{]\s*(?:(?:r#*)?"(\w+)"|(?!r?#*"))')
_ASKED_IN_TEXT = re.compile(rb'\benv!\s*[(\[{]\s*\\?"(\w+)\\?"')
"""In a literal that a macro makes code of, or elsewhere."""

_BEGINS = re.compile(OF_STD + rb'concat!\s*[(\[{]\s*"(\w+)"')
"""How a name begins that is put together."""

_VARIABLE = re.compile(rb'"([A-Z][A-Z0-9_]+)"')
_BLANK = ord(" ")
_BEFORE = 120


def uses_value(
    source: bytes, name: str, *, stays_whole: bool = False, is_test: bool = True
) -> bool:
    """Whether a source file may ask for the variable outside of an `include!(…)`, other than by
    what shows in the artifact, where texts are left whole, and, if the compile `is_test`, in tests.

    By whatever macro: `env!` may have another name, or be what a macro of the file's makes of it;
    or by a name that is put together.
    """
    if b"env!" not in source and not mentions(source, name):
        return False
    code = without_comments(source)
    is_live = _always if is_test else _outside_tests(code)
    starts = filter(is_live, _literals(code, name))
    harmless = (_INCLUDE, _CALLED, *([_TAKEN] if stays_whole else []))
    if not all(any(_is(each, code, at) for each in harmless) for at in starts):
        return True
    asked = (match for match in _ASKED.finditer(code) if is_live(match.start()))
    put_together = (match.end() for match in asked if match.group(1) is None)
    return not all(_is_file(code, at) or _is_another(code, at, name) for at in put_together)


def _is_another(code: bytes, at: int, name: str) -> bool:
    """Whether the name that is put together there begins as this one does not:
    `concat!("CARGO_BIN_EXE_", $name)`."""
    begins = _BEGINS.match(code, at)
    return begins is not None and not name.encode().startswith(begins.group(1))


def _always(_: int) -> bool:
    return True


def _outside_tests(code: bytes) -> Callable[[int], bool]:
    """Whether what begins at a place in code is no part of its tests."""
    text = without_literals(code)
    kept, _ = without_tests(text)
    return lambda at: kept[at] == text[at]


def values_handed_on(source: bytes) -> set[str]:
    """The variables that a source file's macros ask for where they are used, but to include files.

    Not those of its tests. Where a name is filled in, as in `quote! { env!(#name) }`, it may be any
    that the file has as a text; one that its caller gives stands there.
    """
    makes_code = b"macro_rules" in source or b"quote" in source
    if b"env!" not in source or not (makes_code or b"TokenStream" in source):
        return set()
    code = without_comments(source)
    no_literals = without_literals(code)
    in_text = _ASKED_IN_TEXT.finditer(code)
    found = {match.group(1) for match in in_text if no_literals[match.start()] == _BLANK}
    if not makes_code:
        return {name.decode() for name in found}
    text, _ = without_tests(no_literals)
    asked = [match for match in _ASKED.finditer(code) if text[match.start()] != _BLANK]
    named = [each for each in asked if each.group(1)]
    found |= {each.group(1) for each in named if not _is_file(code, each.start(1) - 1)}
    if any(code.startswith(b"#", each.end()) for each in asked if not each.group(1)):
        found.update(_VARIABLE.findall(code))
    return {name.decode() for name in found}


def mentions(source: bytes, name: str) -> bool:
    """Whether the variable's name stands in a source file at all."""
    return name.encode() in source


def explains(source: bytes, name: str) -> bool:
    """Whether a source file asks for the variable in a way that `uses_value` knows."""
    if not mentions(source, name):
        return False
    code = without_comments(source)
    starts = _literals(code, name)
    return any(_is(each, code, at) for at in starts for each in (_INCLUDE, _TAKEN))


def _literals(code: bytes, name: str) -> Iterator[int]:
    """Where a variable's name stands as a literal."""
    literal = re.compile(b'"' + re.escape(name.encode()) + b'"')
    return (match.start() for match in literal.finditer(code))


def _is_file(code: bytes, at: int) -> bool:
    """Whether what begins there is a name by which a file is included."""
    return _is(_INCLUDE, code, at)


def _is(before: re.Pattern[bytes], code: bytes, at: int) -> bool:
    return before.search(code, max(0, at - _BEFORE), at) is not None
