"""Does a crate use the value of a path-valued variable, or only read files through it?

`include!(concat!(env!("OUT_DIR"), "/x.rs"))` and `include!(env!("MADE_BY_BUILD_RS"))` give the same
artifact wherever the file lies; `env!("CARGO_MANIFEST_DIR")` by itself puts this checkout's path
into the program. The source's text tells them apart well enough to say "certainly only files";
anything else counts as a use.
"""

from __future__ import annotations

import re

from wrapper.inputs.rust_text import without_comments

_INCLUDE = re.compile(
    rb"(?<!\w)include(_str|_bytes)?!\s*[(\[{]\s*(concat!\s*[(\[{]\s*)?((core|std)::)?"
    rb"(?:option_)?env!\s*[(\[{]\s*(?:r#*)?$"
)
_BEFORE = 120


def uses_value(source: bytes, name: str) -> bool:
    """Whether a source file asks for the variable outside of an `include!(…)`.

    By whatever macro: `env!` may have another name, or be what a macro of the file's makes of it.
    """
    if not mentions(source, name):
        return False
    code = without_comments(source)
    pattern = re.compile(rb'!\s*[(\[{]\s*(?:r#*)?("' + re.escape(name.encode()) + rb'")')
    return any(
        not _INCLUDE.search(code, max(0, match.start(1) - _BEFORE), match.start(1))
        for match in pattern.finditer(code)
    )


def mentions(source: bytes, name: str) -> bool:
    """Whether the variable's name stands in a source file at all."""
    return name.encode() in source
