"""Units in a target directory that was moved, copied or restored elsewhere, or that stayed where it
is while its workspace was moved.

cargo takes them for fresh there, while what is known of them goes by the place where they, or their
sources, were. What is known of a unit holds for its artifact wherever that lies, byte for byte,
beside the same sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace

from wrapper.build_scripts.names import is_below
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.macros import artifacts
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.unit_records import UnitRecord, UnitRecords
from wrapper.rustc.arguments import NotUnderstood

Sources = Callable[[UnitRecord], Collection[str]]


def made_of(stem: str, files: FileDigests) -> str:
    """The hash of what dependents know a unit by, its metadata where it has some; empty where it is
    none that others depend on."""
    try:
        return files.digest(next(artifacts(stem, None, with_code=False))).hash
    except (NotUnderstood, OSError):
        return ""


class MovedUnits:
    """Finds what is known of them. Blocks."""

    def __init__(self, units: UnitRecords, files: FileDigests) -> None:
        self._units = units
        self._files = files

    def closure(
        self, stems: Collection[str], workspace: str, sources: Sources
    ) -> dict[str, UnitRecord]:
        """All units that the named ones stand on, as `UnitRecords` has it, which then knows also
        those that were made elsewhere.

        `workspace` is where the packages lie that no registry has, `sources` what the hash of
        the directory of a unit's package may be. Raises NotUnderstood.
        """
        try:
            known = self._units.closure(stems)
            if not any(_is_left(record, workspace) for record in known.values()):
                return known
        except NotUnderstood:
            pass  # as one of them was not made there
        pending, seen = list(stems), set[str]()
        while pending:
            stem = pending.pop()
            if stem in seen:
                continue
            seen.add(stem)
            record = self._units.find(stem)
            if record is None:
                record = self._made_elsewhere(stem, workspace, sources)
            elif _is_left(record, workspace):
                record = self._made_of_moved(stem, record, workspace, sources)
            if record is None:
                break
            pending.extend(record.externs)
        return self._units.closure(stems)

    def _made_of_moved(
        self, stem: str, record: UnitRecord, workspace: str, sources: Sources
    ) -> UnitRecord | None:
        """The record of a unit that is where it was, of a package that is elsewhere now."""
        if not record.made or record.made != made_of(stem, self._files):
            return None
        _, *names = record.package.split("/")
        for start in range(len(names) + 1):
            package = "/".join((workspace, *names[start:]))
            moved = _of_package(record, package)
            if os.path.isdir(package) and _is_made_of(moved, workspace, sources):
                self._units.add(stem, moved)
                return moved
        return None

    def _made_elsewhere(self, stem: str, workspace: str, sources: Sources) -> UnitRecord | None:
        others = self._units.named(os.path.basename(stem))
        made = made_of(stem, self._files) if others else ""
        for other, record in others.items():
            moved = _moved(record, other, stem) if made and record.made == made else None
            if moved is not None and _is_made_of(moved, workspace, sources):
                self._units.add(stem, moved)
                return moved
        return None


def _is_left(record: UnitRecord, workspace: str) -> bool:
    """Whether its package was in another workspace, and is there no more."""
    if not record.sources or record.recorded or is_below(record.package, (workspace,)):
        return False
    return not os.path.isdir(record.package)


def _is_made_of(record: UnitRecord, workspace: str, sources: Sources) -> bool:
    """Whether its package's sources are those that it was made of: they say what it may do. cargo
    goes by their ages, and a worktree of another branch may have older ones."""
    if is_published(record.package):
        return True
    if not record.sources or not (record.recorded or is_below(record.package, (workspace,))):
        return False
    try:
        return record.sources in sources(record)
    except OSError:
        return False


def _moved(record: UnitRecord, old: str, new: str) -> UnitRecord | None:
    """The record of a unit that was in one place and is in another, or None where it cannot be
    told."""
    before, after = _roots_of_move(old, new)
    if not all(stem.startswith(f"{before}/") for stem in record.externs):
        return None

    def moved(path: str) -> str:
        there = after + path.removeprefix(before) if path.startswith(f"{before}/") else path
        return there if os.path.exists(there) else path

    package = moved(record.package)
    is_named_by_place = record.recorded and package != record.package
    if is_named_by_place or not os.path.isdir(package):
        return None
    return replace(
        _of_package(record, package),
        externs=tuple(after + stem.removeprefix(before) for stem in record.externs),
        native=tuple(moved(path) for path in record.native),
    )


def _of_package(record: UnitRecord, package: str) -> UnitRecord:
    """The same of a package that is elsewhere now. What the unit turned out to read by names of
    where it was is left, but for what the package has: it is known again when it is compiled."""
    below = [path for path in record.files if is_below(path, (record.package,))]
    files = tuple(package + path.removeprefix(record.package) for path in below)
    return replace(record, package=package, files=files, environment=(), asked=(), libraries=())


def _roots_of_move(old: str, new: str) -> tuple[str, str]:
    """`/a/target/debug/deps/x`, `/b/c/target/debug/deps/x` → `/a`, `/b/c`."""
    while os.path.basename(old) == os.path.basename(new) and old != new:
        old, new = os.path.dirname(old), os.path.dirname(new)
    return old, new
