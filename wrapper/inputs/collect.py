"""Collect all inputs of one compile: where each goes in the input root, and its digest."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import chain

from wrapper.build_scripts.names import ABOVE, above, is_below
from wrapper.inputs.apart import apart_for, is_apart, ways_apart
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.inputs import (
    Inputs,
    is_of_system,
    refuse_left_out,
    staged_or_refuse,
    without_dots_or_refuse,
)
from wrapper.inputs.macro_trust import MacroTrust
from wrapper.inputs.macros import Macros, artifacts
from wrapper.inputs.moved_units import MovedUnits
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.package_states import PublishedStates, State
from wrapper.inputs.snapshot import (
    NotSendable,
    Skip,
    Snapshot,
    age,
    skip_in_out_dir,
    skip_in_package,
    skip_probes_too,
    take_snapshot,
)
from wrapper.inputs.toolchain import Toolchain, Toolchains
from wrapper.inputs.unit_records import (
    UnitRecord,
    UnitRecords,
    directories_in,
    native_paths,
    record_of,
)
from wrapper.inputs.upwards import Upwards
from wrapper.roots import Roots, find_roots
from wrapper.rustc.arguments import Invocation, NotUnderstood

CLIPPY_SETTINGS = ("clippy.toml", ".clippy.toml")


class Collector:
    """Collects inputs; remembers the snapshots of directories that do not change."""

    def __init__(self, files: FileDigests, units: UnitRecords, builds: BuildStarts) -> None:
        self._files = files
        self._units = units
        self._moved = MovedUnits(units, files)
        self._toolchains = Toolchains(files, builds)
        self._published = PublishedStates(builds)
        self._trust = MacroTrust(self._published)
        self._macros = Macros(units, self._trust)
        self._packages_taken: dict[str, tuple[State, Snapshot]] = {}

    def compiler(self, driver: str, environment: Mapping[str, str]) -> str:
        """A compiler's version and kind of machine. Raises NotUnderstood."""
        toolchain = self._toolchains.find(driver, environment)
        return f"{toolchain.commit} {toolchain.host}"

    def knows_toolchain(self, driver: str, environment: Mapping[str, str]) -> bool:
        """Whether its files have been hashed, some time. Raises NotUnderstood."""
        return self._toolchains.knows(self._toolchains.find(driver, environment))

    def hash_toolchain(self, driver: str, environment: Mapping[str, str]) -> None:
        """Hash a compiler's files. Blocks. Raises NotUnderstood and OSError."""
        toolchain = self._toolchains.find(driver, environment)
        self._toolchains.snapshot(toolchain, os.path.basename(driver), None)
        self._toolchains.libraries(toolchain)

    def roots(self, invocation: Invocation, cwd: str, environment: Mapping[str, str]) -> Roots:
        """The places of the unit. Raises OutsideRoots or NotUnderstood."""
        toolchain = self._toolchains.find(invocation.driver, environment)
        roots = find_roots(
            cwd=cwd, source=invocation.source, out_dir=invocation.out_dir,
            triple=invocation.target,
            environment=environment, sources=toolchain.sources,
        )  # fmt: skip
        outside = self._outside(invocation, roots)
        return roots.with_outside(outside) if outside else roots

    def _outside(self, invocation: Invocation, roots: Roots) -> dict[str, str]:
        """Packages of dependencies in neither the workspace nor CARGO_HOME, and their names."""

        def sources(record: UnitRecord) -> set[str]:
            place = replace(roots, package=record.package)
            ways = ways_apart(record.package, (*record.files, *record.native))
            return {self._package(place, None, apart).root.hash for apart in ways}

        try:
            externs = record_of(invocation)[1].externs
            closure = self._moved.closure(externs, roots.workspace, sources)
        except NotUnderstood:
            return {}  # `collect` says so
        return {each.package: each.recorded for each in closure.values() if each.recorded}

    def closure(self, invocation: Invocation) -> dict[str, UnitRecord]:
        """All that a unit stands on, by stem. Raises NotUnderstood."""
        return self._units.closure(record_of(invocation)[1].externs)

    def collect(
        self,
        invocation: Invocation,
        roots: Roots,
        environment: Mapping[str, str],
        files: Collection[str] = (),
        *,
        looks_again: bool = False,
        until_ns: int | None = None,
    ) -> Inputs:
        """Hash what the compile reads. Blocks. Raises NotUnderstood with a reason, or OSError.

        `files` are those outside of its package and OUT_DIR that it is known to read, or in what a
        package's compile may go without (`apart`).
        `looks_again`: also at the toolchain's files, of which others may have been looked at just
        before. `until_ns`: it ended then, and what was changed since does not matter.
        """
        inputs = Inputs(function=self._files.function)
        toolchain = self._toolchains.find(invocation.driver, environment)
        self._add_toolchain(toolchain, invocation, inputs, looks_again=looks_again)
        cargo = environment.get("CARGO", "")
        shows_cargo = cargo.startswith((f"{toolchain.sysroot}/", "/usr/"))
        native = self._dependencies(invocation, roots, inputs, shows_cargo=shows_cargo)
        apart = apart_for(invocation, roots, inputs, files, native)
        package = self._package(roots, until_ns, apart)
        inputs.add(staged_or_refuse(roots, roots.package), package, roots.package)
        if not inputs.is_for_host:
            self._add_target(invocation, roots, environment, inputs)
        out_dir = environment.get("OUT_DIR")
        if out_dir and os.path.isdir(out_dir):  # cargo makes none for a script that is overridden
            self._add_made(out_dir, invocation, roots, inputs)
        self._native(native, roots, inputs)
        self._add_files(files, invocation, roots, environment, inputs)
        if inputs.macros.asks_ages:
            inputs.ages = self._ages(files, roots, environment, inputs.native)
        if invocation.is_clippy:
            self._clippy_settings(roots, environment, inputs)
        return inputs

    def _add_made(self, out_dir: str, invocation: Invocation, roots: Roots, inputs: Inputs) -> None:
        """What the build script made."""
        is_named = any(value and out_dir in value for _, value in invocation.options)
        made = self._snapshot(out_dir, skip_in_out_dir if is_named else skip_probes_too)
        inputs.add(staged_or_refuse(roots, out_dir), made, out_dir)
        inputs.shown[os.path.normpath(out_dir)] = None  # of `target-dir = "../target"`

    def _add_toolchain(
        self, toolchain: Toolchain, invocation: Invocation, inputs: Inputs, *, looks_again: bool
    ) -> None:
        inputs.is_for_host = _is_for(toolchain.host, invocation)
        driver = os.path.basename(invocation.driver)
        snapshot = self._toolchains.snapshot(
            toolchain,
            driver,
            invocation.target,
            backends=invocation.has_backend,
            looks_again=looks_again,
        )
        first, *more = toolchain.shown
        inputs.add("toolchain", snapshot, first)
        inputs.shown.update(dict.fromkeys(more))
        inputs.loaded = self._toolchains.libraries(toolchain)
        named = os.path.dirname(os.path.dirname(invocation.driver))
        is_same = os.path.realpath(named) == os.path.realpath(toolchain.sysroot)
        if is_same and not toolchain.is_shared:
            inputs.shown[named] = None  # rustup names a linked toolchain by the link

    def assembles_files(self, inputs: Inputs) -> bool:
        """Whether code of a compile's dependencies may have the assembler read a file. Raises
        OSError."""
        return any(map(self._trust.assembles_files, (*inputs.unpublished, *inputs.published)))

    def last_record(self, invocation: Invocation) -> UnitRecord:
        """What the unit was seen to read, the last time that it was compiled."""
        return self._units.last(invocation)

    def _clippy_settings(
        self, roots: Roots, environment: Mapping[str, str], inputs: Inputs
    ) -> None:
        """clippy takes its settings from the package's directory or any above it."""
        if "CLIPPY_CONF_DIR" in environment:
            raise NotUnderstood("clippy's settings come from CLIPPY_CONF_DIR")
        for directory in above(roots.package):
            for name in CLIPPY_SETTINGS:
                self._add_file(os.path.join(directory, name), roots, inputs)

    def _add_target(
        self,
        invocation: Invocation,
        roots: Roots,
        environment: Mapping[str, str],
        inputs: Inputs,
    ) -> None:
        """What specifies the target, where rustc does not know it. Raises OSError."""
        path = invocation.target_file
        if path is None:
            # without that variable rustc looks in the working directory
            here = f"{roots.workspace}/{invocation.target}.json"
            if "RUST_TARGET_PATH" in environment or os.path.exists(here):
                raise NotUnderstood("its target may be specified by a file that no option names")
            return
        refuse_left_out(path, roots, inputs)
        inputs.add_file(staged_or_refuse(roots, path), self._files.digest(path), path)

    def _add_files(
        self,
        paths: Collection[str],
        invocation: Invocation,
        roots: Roots,
        environment: Mapping[str, str],
        inputs: Inputs,
    ) -> None:
        """Files outside of the package as far as they are there."""
        upwards = Upwards(roots, environment)
        for directory in directories_in(paths):
            if os.path.isdir(directory):
                self._add_listed(directory, roots, inputs)
            else:  # there may be a file in its place
                self._add_file(directory, roots, inputs)
            kind = _kind(directory, roots)
            if kind not in ("", "directory"):
                inputs.kinds[f"{roots.staged(directory) or directory}/"] = kind
        for path in (each for each in paths if not each.endswith("/")):
            if is_apart(path, invocation, roots):
                refuse_left_out(path, roots, inputs)
                continue  # taken with all that lies around it
            if path.startswith(ABOVE):
                inputs.upwards[path] = upwards.state(path, self._files)
                continue
            for each in (path, *_places_of_module(path)):
                self._add_file(each, roots, inputs)
            kind = _kind(path, roots) if inputs.macros.suspect is not None else ""
            if kind:
                inputs.kinds[roots.staged(path) or path] = kind

    def _add_listed(self, directory: str, roots: Roots, inputs: Inputs) -> None:
        """A directory with all that is in it."""
        refuse_left_out(directory, roots, inputs)
        taken = self._snapshot(directory, skip_in_package(roots.target), within=roots.workspace)
        inputs.add(staged_or_refuse(roots, directory), taken, directory)

    def _add_file(self, path: str, roots: Roots, inputs: Inputs) -> None:
        """A file outside of the package, if it is there."""
        if os.path.isfile(path):
            refuse_left_out(path, roots, inputs)
            inputs.add_file(staged_or_refuse(roots, path), self._files.digest(path), path)

    def _ages(
        self,
        paths: Collection[str],
        roots: Roots,
        environment: Mapping[str, str],
        native: Iterable[str],
    ) -> dict[str, str]:
        """How old the files are that macros may look at. What comes and goes in the package's own
        directory, such as `target`, is no part of it. Raises OSError."""
        trees = [(roots.package, skip_in_package(roots.target))]
        beside = (environment.get("OUT_DIR", ""), *native)
        trees += [(each, skip_in_out_dir) for each in beside if os.path.isdir(each)]
        listed = filter(os.path.isdir, directories_in(paths))
        trees += [(each, skip_in_package(roots.target)) for each in listed]
        below = (self._snapshot(*tree, within=roots.workspace, with_ages=True) for tree in trees)
        ages = {"": "\n".join(chain.from_iterable(each.ages for each in below))}
        upwards = Upwards(roots, environment)
        for name in paths:
            there = [path for path in upwards.paths(name) if os.path.exists(path)]
            ages[name] = "\n".join(age(os.stat(path)) for path in there)
        return ages

    def _package(self, roots: Roots, until_ns: int | None, apart: Collection[str] = ()) -> Snapshot:
        package, skip = roots.package, skip_in_package(roots.target, apart)
        if not is_published(package):
            taken = self._snapshot(package, skip, within=roots.workspace, until_ns=until_ns)
            # a link may lead there, to a directory that is as if it were elsewhere
            if apart and any(map(os.path.islink, set(taken.left_out) - set(apart))):
                return self._package(roots, until_ns)
            return taken
        state = self._published.of(package)
        known = self._packages_taken.get(package)
        if known is None or known[0] != state:
            known = self._packages_taken[package] = state, self._snapshot(package, skip)
        return known[1]

    def _snapshot(
        self,
        directory: str,
        skip: Skip,
        *,
        within: str = "",
        until_ns: int | None = None,
        with_ages: bool = False,
    ) -> Snapshot:
        try:
            return take_snapshot(
                directory, self._files, skip, within=within, until_ns=until_ns, with_ages=with_ages
            )
        except NotSendable as error:
            raise NotUnderstood(str(error)) from error

    def hands_on(self, invocation: Invocation, variable: str) -> bool:
        """Whether a macro of a dependency's may ask for a variable's value in a compile. Raises
        NotUnderstood."""
        _, record = record_of(invocation)
        try:
            return self._macros.hand_on(record.externs, variable)
        except OSError:
            return True  # gone meanwhile

    def _dependencies(
        self, invocation: Invocation, roots: Roots, inputs: Inputs, *, shows_cargo: bool
    ) -> Collection[str]:
        """Returns the directories in which it may look for native libraries."""
        _, record = record_of(invocation)
        closure = self._units.closure(record.externs)
        for stem, unit in closure.items():
            for path in artifacts(stem, invocation.target, with_code=invocation.needs_rlibs):
                digest = self._files.digest(path)
                if not unit.made:  # the first of them is what it is known by
                    unit = replace(unit, made=digest.hash)
                    self._units.add(stem, unit)
                inputs.files[staged_or_refuse(roots, path)] = digest
                inputs.blobs[digest] = path
                inputs.shown[os.path.dirname(path)] = None
        packages = {record.package for record in closure.values()}
        inputs.published = tuple(p for p in packages if is_published(p))
        inputs.unpublished = tuple(p for p in packages if p and not is_published(p))
        compiled = roots.package if shows_cargo else None
        inputs.macros = self._macros.reads(record.externs, closure, compiled)
        native = dict.fromkeys(native_paths(invocation))
        self._refuse_copies(invocation, [os.path.join(roots.workspace, d) for d in native], roots)
        if invocation.links:
            inputs.system.extend(record.system)
            inputs.system.extend(name for unit in closure.values() for name in unit.system)
            native.update(dict.fromkeys(path for u in closure.values() for path in u.native))
            # published packages say by their build scripts what they link, but for a few
            own = (p for p in {roots.package, *inputs.unpublished} if not is_published(p))
            inputs.attributed = frozenset().union(*(self._trust.linked_by(p) for p in own))
        return native

    def _refuse_copies(
        self, invocation: Invocation, directories: Collection[str], roots: Roots
    ) -> None:
        """Raises NotUnderstood where rustc may copy a library of the system's into the artifact:
        not one that it finds in another directory before, of which the key has all."""
        of_system = [each for each in directories if is_of_system(each, roots)]
        if not of_system:
            return
        copied = [each for each in invocation.native_libraries if each.startswith("static")]
        archives = [f"lib{each.rpartition('=')[2].partition(':')[0]}.a" for each in copied]
        found = [_first_with(archive, directories) for archive in archives]
        if self._trust.copies_libraries(roots.package) or any(
            each is None or each in of_system for each in found
        ):
            raise NotUnderstood(f"reads {of_system[0]}, which has no shared name")

    def _native(self, directories: Collection[str], roots: Roots, inputs: Inputs) -> None:
        """Directories of native libraries; what lies in another of them is a part of that."""
        taken: list[str] = []
        # rustc, and so the linker, is started in the workspace's root
        joined = (os.path.join(roots.workspace, each) for each in directories)
        named = (each if roots.staged(each) else without_dots_or_refuse(each) for each in joined)
        directories = list(dict.fromkeys(named))
        inputs.searched = tuple(each for each in directories if is_of_system(each, roots))
        inputs.native = tuple(each for each in directories if each not in inputs.searched)
        for directory in sorted(inputs.native):
            staged = staged_or_refuse(roots, directory)
            if not os.path.isdir(directory):
                continue
            refuse_left_out(directory, roots, inputs)
            if is_below(directory, taken):
                continue
            taken.append(directory)
            if staged not in inputs.directories:
                inputs.add(staged, self._snapshot(directory, skip_in_out_dir), directory)


def _first_with(name: str, directories: Iterable[str]) -> str | None:
    """The first of some directories that has a file of this name."""
    return next((each for each in directories if os.path.exists(f"{each}/{name}")), None)


def _is_for(host: str, invocation: Invocation) -> bool:
    return invocation.target_file is None and invocation.target in (None, host)


def _kind(path: str, roots: Roots) -> str:
    """What is there, if it is more, or less, than a file."""
    link = f"link to {roots.stage_text(os.readlink(path))}" if os.path.islink(path) else ""
    try:
        is_file = os.path.isfile(path) or not os.lstat(path)
    except NotADirectoryError:
        return "below a file"
    except OSError:
        return ""
    if is_file:
        return link
    return f"{link} {'directory' if os.path.isdir(path) else 'no file'}".strip()


def _places_of_module(path: str) -> list[str]:
    """Where else than in this file rustc looks for a module, and fails when it finds both."""
    stem, suffix = os.path.splitext(path)
    if suffix != ".rs":
        return []
    directory, name = os.path.split(stem)
    return [f"{directory}.rs" if name == "mod" else f"{stem}/mod.rs"]
