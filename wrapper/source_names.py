"""Programs that look for files by their sources' own names.

Cargo names sources outside of the workspace by absolute paths, and artifacts have other names for
these: where a program runs while others are compiled, `file!()` is to lead to the source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from wrapper.inputs.package_sources import is_published
from wrapper.inputs.rust_text import (
    has_own_quote,
    without_comments,
    without_literals,
    without_quotes,
)
from wrapper.rustc.arguments import Invocation
from wrapper.rustc.outputs import unit_kind

_SAYS = re.compile(rb"(?<!\w)file\s*!\s*[(\[{]|\bLocation\b")


def finds_by_name(invocation: Invocation, package: str) -> bool:
    """Whether it is a build script or a macro, by an absolute path, that asks for its source's
    name.

    Of some nine hundred packages of registries no macro did, so that they are not looked through.
    """
    kind = unit_kind(invocation)
    is_macro = kind == "proc-macro" and not is_published(package)
    if not (is_macro or kind == "build-script") or not os.path.isabs(invocation.source):
        return False
    try:
        return any(map(_asks, _sources(invocation.source, package)))
    except OSError:
        return False  # rustc says what is wrong


def _sources(source: str, package: str) -> Iterator[str]:
    """A source and those that are its modules by where they lie. Raises OSError."""
    directory = os.path.dirname(source)
    pending = [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    # below the package's own directory lies all of it
                    if directory != package or entry.name == "build":
                        pending.append(entry.path)
                elif entry.name.endswith(".rs"):
                    yield entry.path


def _asks(path: str) -> bool:
    with open(path, "rb") as file:
        source = file.read()
    if not _SAYS.search(source):
        return False
    text = without_literals(without_comments(source))
    return _SAYS.search(text if has_own_quote(text) else without_quotes(text)) is not None
