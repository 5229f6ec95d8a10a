"""First compiles of units for which rustc need keep no state yet.

The state serves the next edit, and for little source it costs half as much as the compile, for each
library of a workspace, most of which nobody edits before the next clean build.
"""

from __future__ import annotations

import os

from wrapper.inputs.inputs import Inputs
from wrapper.lock_file import find_lock, is_depended_on
from wrapper.result_checks import Unit
from wrapper.rustc.incremental import VARIABLES, is_on
from wrapper.rustc.outputs import dep_info_name

_SMALL = 64 << 10
"""Bytes of source: they are compiled in the time in which rustc and a linker start."""


def needs_no_state(unit: Unit, inputs: Inputs) -> bool:
    """Whether a compile from nothing will do: the first in this target directory, of a small
    package that others are made of. What no other depends on is most likely to be edited at once.

    Not where the user asked cargo for the state by a variable.
    """
    invocation = unit.invocation
    if invocation.incremental is None:
        return False
    if _has_twin(unit):
        return True
    if _asks_for_state(unit):
        return False
    if os.path.exists(f"{invocation.out_dir}/{dep_info_name(invocation)}"):
        return False
    if _source_bytes(unit, inputs) > _SMALL:
        return False
    lock = find_lock(unit.roots.package)
    return lock is not None and is_depended_on(unit.environment.get("CARGO_PKG_NAME", ""), lock)


def _has_twin(unit: Unit) -> bool:
    """Whether cargo compiles it for others as an artifact too (-Z bindeps): both at once, with one
    directory for their state, in which they would clear away each other's."""
    around, name = os.path.split(unit.invocation.out_dir)
    if name == "out":
        return os.path.isdir(f"{around}/artifact")
    package = unit.environment.get("CARGO_PKG_NAME", "")
    return os.path.isdir(f"{around}/artifact/{package}{unit.invocation.extra_filename}")


def _asks_for_state(unit: Unit) -> bool:
    return any(is_on(unit.environment.get(name, "")) for name in VARIABLES)


def _source_bytes(unit: Unit, inputs: Inputs) -> int:
    package = f"{unit.roots.package}/"
    return sum(
        digest.size
        for digest, source in inputs.blobs.items()
        if isinstance(source, str) and source.endswith(".rs") and source.startswith(package)
    )
