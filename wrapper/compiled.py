"""A compile that has ended here with success: what it left, and for whom that is right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from remote_apis.file_copy import is_unchanged
from wrapper.asked import is_told, names_asked
from wrapper.build_scripts.accesses import Seen, decode
from wrapper.build_scripts.names import is_below
from wrapper.build_scripts.reads import changed_since
from wrapper.dep_info import files_read
from wrapper.hidden_paths import are_handed, is_opaque, pieces_in
from wrapper.inputs.apart import is_apart, tops
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.snapshot import RealPlaces
from wrapper.inputs.unit_records import NOTHING, Learned
from wrapper.inputs.upwards import Upwards
from wrapper.ladder import Draft
from wrapper.recorded import NotKept
from wrapper.result_checks import HandsOn, Unit, paths_put_in
from wrapper.rustc.outputs import debug_objects, dep_info_name, output_names
from wrapper.searching import any_contains
from wrapper.whose import (
    Whose,
    fewest,
    fewest_with_pieces,
    names_checkout,
    paths_of_checkout,
    real_paths,
)

_ASSEMBLY = (b"asm!", b"_asm", b"arch::asm", b"asm as", b"incbin")
"""By one of these code names the macros for it."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compile that has ended here with success.

    `outputs` are the files that it left, by name, where they are and as they were before cargo went
    on; `learned` what it turned out to read; `stderr` is rustc's own; `accesses` what a watcher
    noted of it; `was_fresh`: rustc began from nothing.
    """

    unit: Unit
    draft: Draft
    outputs: Mapping[str, tuple[str, os.stat_result]]
    learned: Learned
    stderr: bytes
    started_ns: int
    seconds: float
    was_fresh: bool
    accesses: bytes | None = None

    @property
    def shares(self) -> bool:
        """Whether servers may have the result: how old files are is the same nowhere else."""
        return self.was_fresh and not self.draft.inputs.macros.asks_ages

    @cached_property
    def noted(self) -> list[tuple[str, str]]:
        """The accesses, decoded; none where nothing was watched."""
        return decode(self.accesses or b"")

    @cached_property
    def known(self) -> Learned:
        """All that it is known to read, but for what only compiles before did."""
        return _still_read(self) | self.learned


def _still_read(compiled: Compiled) -> Learned:
    """What it was known to read, without what only compiles from other sources did: that would stay
    in the key for ever. rustc that goes on from before reads not all again. Blocks."""
    learned = compiled.draft.learned
    if compiled.accesses is None or not compiled.was_fresh or learned == NOTHING:
        return learned
    looked = _Looked(compiled.noted, compiled.unit)
    now = replace(
        learned,
        variables=compiled.learned.variables,
        files=tuple(filter(looked.at, learned.files)),
        asked=compiled.learned.asked if is_told(compiled.accesses) else learned.asked,
    )
    # from the same sources it may read that again, as soon as it reads something else elsewhere
    return now | compiled.draft.told


class _Looked:
    """What a watched compile looked at."""

    def __init__(self, noted: Iterable[tuple[str, str]], unit: Unit) -> None:
        places = RealPlaces()
        paths = [path for _, path in noted]
        self._unit = unit
        self._paths = {form for path in paths for form in (path, places.of(path))}
        self._paths |= set(map(os.path.normpath, paths))
        ways = (way for path in paths for way in unit.roots.left_upwards(path))
        self._tops = tops((*self._paths, *ways), unit.roots.package)
        self._upwards = Upwards(unit.roots, unit.environment)

    def at(self, name: str) -> bool:
        """Whether it looked at a file by this name, or at something in a directory."""
        roots = self._unit.roots
        if is_apart(name, self._unit.invocation, roots):
            return not self._tops.isdisjoint(tops([name], roots.package))
        paths = [path.removesuffix("/") for path in self._upwards.paths(name)]
        return any(is_below(each, paths) for each in self._paths)


def dep_info_of(compiled: Compiled) -> tuple[str, bytes]:
    """The path and the bytes of the compile's dep-info. Raises OSError."""
    unit = compiled.unit
    path = os.path.join(unit.roots.out_dir, dep_info_name(unit.invocation))
    with open(path, "rb") as file:
        return path, file.read()


def check_unchanged(compiled: Compiled) -> None:
    """Raises NotKept when an output is no longer what the compile left, and OSError."""
    for name, (path, before) in compiled.outputs.items():
        try:
            now = os.stat(path)
        except FileNotFoundError:
            raise NotKept(f"{name} was made anew meanwhile") from None
        # cargo dates what `cargo check` makes back to when it began, which is no change
        is_dated_back = (
            "link" not in compiled.unit.invocation.emit
            and (now.st_ino, now.st_size) == (before.st_ino, before.st_size)
            and now.st_mtime_ns < before.st_mtime_ns
        )
        if not is_dated_back and not is_unchanged(now, before):
            raise NotKept(f"{name} was made anew meanwhile")


def check_state(compiled: Compiled, dep_info: bytes, assembles: Callable[[Inputs], bool]) -> None:
    """Raises NotKept where rustc may have taken over, from a compile before, what the assembler had
    read then; `assembles`: whether dependencies' code may have it read files. Raises OSError."""
    if compiled.was_fresh:
        return
    unit = compiled.unit
    sources = [os.path.join(unit.roots.workspace, name) for name in files_read(dep_info)]
    if any_contains(sources, _ASSEMBLY) or assembles(compiled.draft.inputs):
        raise NotKept("it has assembly, and rustc went on from where it was")


def check_known_unchanged(compiled: Compiled) -> None:
    """Raises NotKept when a file that it is known to read, or a directory that it listed, is not
    what it was: it may have been another thing while it was read."""
    roots = compiled.unit.roots
    own = [name.removesuffix("/") for name in compiled.known.files]
    own += _listed(compiled)
    upwards = Upwards(roots, compiled.unit.environment)
    paths = [path for name in own for path in upwards.paths(name)]
    # of what nothing was above, the key says so afterwards
    read = Seen(reads={p: "o" for p in paths if p in own or os.path.lexists(p)})
    ways = (roots.workspace,)
    changed = changed_since(read, compiled.started_ns, roots.targets, places=ways)
    if changed is not None:
        raise NotKept(f"{changed} changed while it was compiled")


def _listed(compiled: Compiled) -> list[str]:
    """The directories of the workspace, and of the package, that rustc itself listed."""
    roots = compiled.unit.roots
    opened = {os.path.normpath(path) for kind, path in compiled.noted if kind == "o"}
    around = (roots.workspace, roots.package)
    inside = (p for p in opened if is_below(p, around) and not is_below(p, roots.targets))
    return list(filter(os.path.isdir, inside))


def whose_result(compiled: Compiled, dep_info: bytes, known: Learned, hands_on: HandsOn) -> Whose:
    """For whom the result is right."""
    unit, invocation = compiled.unit, compiled.unit.invocation
    if unit.keeps_paths:
        return Whose.THE_CHECKOUTS
    said = paths_put_in(unit, dep_info, known.names, hands_on)
    # what it makes of such a value may not look like a path any more
    if any(names_checkout(unit.environment.get(name, ""), unit.roots) for name in said):
        return Whose.THE_CHECKOUTS
    asked = compiled.draft.inputs.macros.variables | known.asked | _seen_asking(compiled)
    is_hidden = bool(said) or are_handed(asked, unit.roots, unit.environment)
    is_lost = is_hidden and is_opaque(invocation)
    if is_lost and any(
        names_checkout(unit.environment.get(name, ""), unit.roots) for name in asked
    ):
        return Whose.THE_CHECKOUTS
    outputs = [
        path
        for name, (path, st) in compiled.outputs.items()
        if st.st_size and not name.endswith(".d")
    ]

    def holds(paths: list[str]) -> bool:
        recorded = (place.recorded for place in unit.roots.places)
        needles = fewest(paths)
        hidden = pieces_in(invocation, fewest_with_pieces(paths), recorded) if is_hidden else ()
        return any_contains(outputs, [*needles, *hidden])

    if not (said or is_lost or holds(real_paths(unit.roots))):
        return Whose.EVERYBODYS
    is_here = holds(paths_of_checkout(unit.roots))
    return Whose.THE_CHECKOUTS if is_here else Whose.THE_USERS


def _seen_asking(compiled: Compiled) -> Set[str]:
    """The variables for which macros were seen to ask; any, where they were not watched."""
    if compiled.accesses is not None:
        return names_asked(compiled.accesses)
    return compiled.unit.environment.keys() if compiled.draft.inputs.has_macros else frozenset()


def outputs_of(unit: Unit, moved: Mapping[str, str]) -> dict[str, tuple[str, os.stat_result]]:
    """The files that a compile has left; `moved` are the paths of those that are elsewhere now."""
    found = {}
    for name in (*output_names(unit.invocation), *debug_objects(unit.invocation)):
        path = moved.get(name) or os.path.join(unit.roots.out_dir, name)
        with suppress(FileNotFoundError):
            found[name] = path, os.stat(path)
    return found
