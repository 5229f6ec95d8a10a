"""Does a crate use the value of a path-valued variable, or only read files through it?

`include!(concat!(env!("OUT_DIR"), "/x.rs"))` gives the same artifact wherever the file lies;
`env!("CARGO_MANIFEST_DIR")` by itself puts this checkout's path into the program. The source's
text tells them apart well enough to say "certainly only files"; anything else counts as a use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_INCLUDE = re.compile(rb"(?<!\w)include(_str|_bytes)?!\s*[(\[{]\s*concat!\s*[(\[{]\s*$")
_BEFORE = 120


def uses_value(source: bytes, name: str) -> bool:
    """Whether a source file asks for the variable outside of an `include!(concat!(…))`."""
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


def rust_files(directory: str, skipped: Iterable[str]) -> Iterable[str]:
    """Paths of the `.rs` files of a package, target directories and the like left out."""
    leave_out = set(skipped)
    for parent, directories, names in os.walk(directory):
        directories[:] = [
            d
            for d in directories
            if d not in leave_out
            and not d.startswith(".")
            and not os.path.exists(os.path.join(parent, d, "CACHEDIR.TAG"))
        ]
        yield from (os.path.join(parent, name) for name in names if name.endswith(".rs"))


def package_uses_value(directory: str, name: str) -> bool:
    """Whether any source file of a package uses the variable's value. Reads the files."""
    for path in rust_files(directory, ("node_modules",)):
        with open(path, "rb") as file:
            if uses_value(file.read(), name):
                return True
    return False


def package_mentions(directory: str, name: str) -> bool:
    """Whether any source file of a package names the variable. Reads the files."""
    for path in rust_files(directory, ("node_modules",)):
        with open(path, "rb") as file:
            if mentions(file.read(), name):
                return True
    return False
