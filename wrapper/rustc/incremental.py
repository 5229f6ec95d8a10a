"""The state that rustc keeps between compiles of a unit."""

from __future__ import annotations

import os
from collections.abc import Sequence

from wrapper.rustc.arguments import Invocation


def is_fresh(invocation: Invocation) -> bool:
    """Whether rustc begins from nothing: what it makes then depends on its inputs alone."""
    directory = invocation.incremental
    if directory is None:
        return True
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return True
    return not any(name.startswith(f"{invocation.crate_name}-") for name in names)


def without_incremental(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line of the same compile from nothing, leaving no state."""
    kept: list[str] = []
    for word in argv:
        if word.startswith("-Cincremental="):
            continue
        if word.startswith("incremental=") and kept and kept[-1] in ("-C", "--codegen"):
            kept.pop()
            continue
        kept.append(word)
    return tuple(kept)
