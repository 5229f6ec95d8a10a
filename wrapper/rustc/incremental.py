"""The state that rustc keeps between compiles of a unit."""

from __future__ import annotations

import os
from collections.abc import Sequence

from wrapper.rustc.arguments import Invocation
from wrapper.rustc.outputs import dep_info_name

VARIABLES = ("CARGO_INCREMENTAL", "CARGO_BUILD_INCREMENTAL")
"""By which a user tells cargo whether there is to be any."""


def is_on(value: str) -> bool:
    """Whether a setting of cargo's says that there is."""
    return value in ("1", "true")


def is_fresh(invocation: Invocation) -> bool:
    """Whether rustc begins from nothing: what it makes then depends on its inputs alone."""
    directory = invocation.incremental
    dep_info = f"{invocation.out_dir}/{dep_info_name(invocation)}"
    if directory is None or not os.path.exists(dep_info):
        return True  # what lies there is of another unit: a package's lib and bin have one name
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
