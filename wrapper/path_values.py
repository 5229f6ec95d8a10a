"""Does a crate use the value of a path-valued variable, or only read files through it?

`include!(concat!(env!("OUT_DIR"), "/x.rs"))` and `include!(env!("MADE_BY_BUILD_RS"))` give the same
artifact wherever the file lies; `env!("CARGO_MANIFEST_DIR")` by itself puts this checkout's path
into the program. The source's text tells them apart well enough to say "certainly only files";
anything else counts as a use.
"""

from __future__ import annotations

import re

_INCLUDE = re.compile(
    rb"(?<!\w)include(_str|_bytes)?!\s*[(\[{]\s*(concat!\s*[(\[{]\s*)?((core|std)::)?$"
)
_BEFORE = 120


def uses_value(source: bytes, name: str) -> bool:
    """Whether a source file asks for the variable outside of an `include!(…)`."""
    pattern = re.compile(
        rb'(?:option_)?env!\s*[(\[{]\s*(?:r#*)?"' + re.escape(name.encode()) + rb'"'
    )
    return any(
        not _INCLUDE.search(source, max(0, match.start() - _BEFORE), match.start())
        for match in pattern.finditer(source)
    )


def mentions(source: bytes, name: str) -> bool:
    """Whether the variable's name stands in a source file at all."""
    return name.encode() in source
