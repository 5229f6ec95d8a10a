"""Is a result right for this checkout? What a compile read of the environment decides."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property

from wrapper.build_scripts.names import is_below
from wrapper.dep_info import environment_read, files_read
from wrapper.hidden_paths import is_opaque, is_optimized
from wrapper.inputs.apart import is_apart
from wrapper.inputs.environment import OF_CLIPPY, environment_of_action
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.unit_records import NOTHING, Learned, UnitRecord, record_of
from wrapper.path_values import explains, uses_value
from wrapper.roots import ROOT_DIRECTORY, Roots
from wrapper.rustc.arguments import Invocation
from wrapper.rustc.outputs import dep_info_name
from wrapper.source_names import finds_by_name
from wrapper.ways import leads_elsewhere

_OUT_DIR = "OUT_DIR"
"""Of which macros of other crates, such as tonic's, include files: its name is here nowhere."""

HandsOn = Callable[[str], bool]
"""Whether a macro of a dependency's may ask for a variable's value where it is used."""

_UNDEFINED = re.compile(rb"environment variable `([^`\\]+)` not defined at compile time")
_UNREAD = re.compile(rb"couldn't read (?:`([^`\\]+)`|([^`:\\]+)): No such file")
"""The latter as older versions have it."""


class CompileHere(Exception):
    """rustc has to run on this machine; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One compile as cargo asked for it, and its places."""

    invocation: Invocation
    roots: Roots
    environment: Mapping[str, str]

    @cached_property
    def keeps_paths(self) -> bool:
        """Whether the result must hold this checkout's own paths: coverage reports go by them, and
        by `file!()` tests of a package outside of the workspace, where it has no other name, and
        build scripts and macros of any, to find what lies beside them.
        """
        is_outside = bool(self.roots.outside) and self.invocation.is_test
        if self.invocation.keeps_paths or is_outside:
            return True
        return finds_by_name(self.invocation, self.roots.package)

    def record(self, learned: Learned, key: str, sources: str = "") -> tuple[str, UnitRecord]:
        """The stem under which it is known to its dependents, and what is known."""
        roots = self.roots
        stem, record = record_of(self.invocation, learned, key, roots.package, roots.outside)
        return stem, replace(record, sources=sources)


def missed(stderr: bytes, unit: Unit) -> Learned:
    """Variables and files that rustc missed on the worker and that are here. Blocks."""
    variables = {name.decode() for name in _UNDEFINED.findall(stderr)}
    texts = dict.fromkeys(os.fsdecode(a or b) for a, b in _UNREAD.findall(stderr))
    files = [path for path in (_of_worker(unit, each) for each in texts) if os.path.isfile(path)]
    return Learned(
        frozenset(variables & unit.environment.keys()),
        tuple(path for path in files if _is_beside(unit, path)),
    )


def _of_worker(unit: Unit, text: str) -> str:
    """What is here at a path that a worker has written."""
    _, is_absolute, staged = text.partition(f"/{ROOT_DIRECTORY}/")
    path = unit.roots.real(os.path.normpath(staged)) if is_absolute else None
    return _normal(unit, path or text)[0]


def environment_not_carried(
    unit: Unit,
    dep_info: bytes,
    learned: Set[str],
    hands_on: HandsOn,
    *,
    is_of_path: bool = False,
) -> set[str]:
    """Variables that the compile read and that its action did not carry as they are here.

    `dep_info` has this checkout's paths. `is_of_path`: the result is for these very paths. Raises
    CompileHere when a variable's value is a path of this checkout that may be in the artifact, or
    is the worker's own.
    """
    carried = environment_of_action(unit.environment, learned)
    unknown: set[str] = set()
    for name, recorded in environment_read(dep_info).items():
        here = unit.environment.get(name)
        if name in carried and carried[name] != unit.roots.stage_text(carried[name]):
            if not is_of_path:
                _check_path_value(unit, name, dep_info, hands_on)
        elif here == recorded:
            continue
        elif here is None or name in carried:
            raise CompileHere(f"read another {name} on the worker than here")
        else:
            unknown.add(name)
    return unknown


def paths_put_in(unit: Unit, dep_info: bytes, learned: Set[str], hands_on: HandsOn) -> list[str]:
    """The variables that the compile read whose values are paths that may be in the artifact, or
    not what they are here."""
    carried = environment_of_action(unit.environment, learned)
    found = []
    for name, recorded in environment_read(dep_info).items():
        if name in carried and carried[name] != unit.roots.stage_text(carried[name]):
            try:
                _check_path_value(unit, name, dep_info, hands_on)
            except CompileHere:
                found.append(name)
        elif recorded != unit.environment.get(name):
            found.append(name)
    return found


def _check_path_value(unit: Unit, name: str, dep_info: bytes, hands_on: HandsOn) -> None:
    """Raises CompileHere unless the variable is only used to say where files are, or in a way that
    shows in the artifact."""
    is_explained = False
    is_whole = not (is_optimized(unit.invocation) or is_opaque(unit.invocation))
    # of others' packages, which all take for what they look like
    stays_whole = is_whole and is_published(unit.roots.package)
    is_test = unit.invocation.is_test
    for path in files_read(dep_info):
        try:
            with open(os.path.join(unit.roots.workspace, path), "rb") as file:
                source = file.read()
        except OSError as error:
            raise CompileHere(f"cannot read {path}: {error.strerror}") from error
        if uses_value(source, name, stays_whole=stays_whole, is_test=is_test):
            raise CompileHere(f"puts the path in {name} into it")
        is_explained = is_explained or explains(source, name)
    if (name != _OUT_DIR and not is_explained) or hands_on(name):
        raise CompileHere(f"a macro of another crate puts the path in {name} into it")


def environment_beside(unit: Unit, dep_info: bytes) -> set[str]:
    """Variables set here that the compile read and that are not in every key."""
    read = environment_read(dep_info).keys() & unit.environment.keys()
    known = OF_CLIPPY if unit.invocation.is_clippy else ()
    return set(read - environment_of_action(unit.environment, known).keys())


def files_outside(unit: Unit, dep_info: bytes) -> list[str]:
    """Files that the compile read outside of its package and OUT_DIR and that can be staged, and
    those in what a package's compile may go without."""
    roots, invocation = unit.roots, unit.invocation
    names = list(files_read(dep_info))
    named = (os.path.join(roots.workspace, name) for name in names)
    ways = (way for path in named for way in roots.left_upwards(path))
    found = [path for path in (_normal(unit, name)[0] for name in names) if _is_beside(unit, path)]
    return [*found, *dict.fromkeys(way for way in ways if is_apart(way, invocation, roots))]


def _is_beside(unit: Unit, path: str) -> bool:
    """Whether a key has a file's name where it was read, and not otherwise."""
    roots = unit.roots
    inside = (roots.package, unit.environment.get("OUT_DIR", roots.package))
    is_outside = not is_below(path, inside) and roots.staged(path) is not None
    return is_outside or is_apart(path, unit.invocation, roots)


def learned_by(unit: Unit) -> Learned:
    """What the compile that has just ended here turned out to read. Raises OSError."""
    path = os.path.join(unit.roots.out_dir, dep_info_name(unit.invocation))
    try:
        with open(path, "rb") as file:
            dep_info = file.read()
    except FileNotFoundError:
        return NOTHING
    files = tuple(files_outside(unit, dep_info))
    return Learned(frozenset(environment_beside(unit, dep_info)), files)


def read_and_not_staged(unit: Unit, dep_info: bytes, inputs: Inputs) -> str | None:
    """A file that the compile read and that is no part of its inputs, or None."""
    for name in files_read(dep_info):
        path, is_where_it_says = _normal(unit, name)
        if not is_where_it_says or not is_below(path, inputs.shown) or inputs.is_left_out(path):
            return path
        if leads_elsewhere(os.path.join(unit.roots.workspace, name), unit.roots, inputs):
            return name
    return None


def check_ways(unit: Unit, dep_info: bytes, inputs: Inputs) -> None:
    """Raises CompileHere where a result was made from what was reached by a way upwards that may
    lead elsewhere here."""
    if b"../" in dep_info:
        upwards = b"\n".join(line for line in dep_info.split(b"\n") if b"../" in line)
        name = read_and_not_staged(unit, upwards, inputs)
        if name is not None:
            raise CompileHere(f"it reads {name}, which is no input")


def _normal(unit: Unit, name: str) -> tuple[str, bool]:
    """A path without its `..`, and whether it still leads to the same: of a link's parent it may
    not."""
    path = os.path.join(unit.roots.workspace, name)
    normal = os.path.normpath(path)
    return normal, ".." not in name or os.path.realpath(normal) == os.path.realpath(path)
