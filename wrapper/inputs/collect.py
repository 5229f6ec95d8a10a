"""Collect all inputs of one compile: where each goes in the input root, and its digest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from wrapper.build_scripts.environment import tokens_of, users_variables
from wrapper.build_scripts.names import is_below
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.macro_trust import MacroTrust, Reads, is_published
from wrapper.inputs.package_states import PublishedStates, State
from wrapper.inputs.snapshot import (
    NotSendable,
    RealPlaces,
    Skip,
    Snapshot,
    Source,
    skip_in_out_dir,
    skip_in_package,
    take_snapshot,
)
from wrapper.inputs.toolchain import Toolchains
from wrapper.inputs.unit_records import UnitRecord, UnitRecords, native_paths, record_of
from wrapper.roots import Roots, find_roots
from wrapper.rustc.arguments import Invocation, NotUnderstood

_TOOLCHAIN_SECONDS = 1.0
_MAX_WORDS_OF = 20_000
_BEGINNING = 4096


@dataclass(slots=True, kw_only=True)
class Inputs:
    """Files and whole directories by their staged path, and the sources of all their blobs.

    `shown` are the real paths of the same, in coarser pieces, and `left_out` what lies below these
    and is no input. `system` names the libraries that the linker has to find by itself;
    `is_for_host`: the compile is for this kind of machine; `macros`: what macros may read in it;
    `published`: the directories of those of its dependencies that a registry has; `attributed`: the
    libraries that the others' code has linked.
    """

    function: DigestFunction
    files: dict[str, Digest] = field(default_factory=dict)
    directories: dict[str, Digest] = field(default_factory=dict)
    blobs: dict[Digest, Source] = field(default_factory=dict)
    shown: dict[str, None] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    is_for_host: bool = True
    macros: Reads = field(default_factory=Reads)
    published: tuple[str, ...] = ()
    attributed: frozenset[str] = frozenset()
    _real_places: RealPlaces = field(default_factory=RealPlaces)

    def add(self, path: str, snapshot: Snapshot, real: str) -> None:
        """A directory and its blobs."""
        self.directories[path] = snapshot.root
        self.blobs.update(snapshot.blobs)
        self.shown[real] = None
        self.left_out.extend(snapshot.left_out)
        self.shown.update(dict.fromkeys(snapshot.followed))

    def add_file(self, path: str, digest: Digest, real: str) -> None:
        """A file; what lies beside it is not shown."""
        self.files[path] = digest
        self.blobs[digest] = real
        self.shown[real] = None

    def is_left_out(self, path: str, *, target: str = "") -> bool:
        """Whether a path, or where the links on the way to it lead, is known and no input.

        `target`: the target directory, where what lies in it is a place of its own.
        """
        left_out = [each for each in self.left_out if each != target]
        if _hides(path, left_out, self.shown):
            return True
        real = self._real_places.of(path)
        return real != path and _hides(
            real, map(self._real_places.of, left_out), map(self._real_places.of, self.shown)
        )

    @property
    def has_macros(self) -> bool:
        """Whether code of others runs within the compile: a dependency is a shared library."""
        return any(path.endswith(".so") for path in self.files)


def _hides(path: str, left_out: Iterable[str], shown: Iterable[str]) -> bool:
    """Whether the nearest of the places around a path is one that is left out."""
    hidden = max((len(each) for each in left_out if is_below(path, (each,))), default=0)
    # OUT_DIR lies in `target`, which is left out where the workspace is a package
    return bool(hidden) and not any(is_below(path, (each,)) for each in shown if len(each) > hidden)


class Collector:
    """Collects inputs; remembers the snapshots of directories that do not change."""

    def __init__(self, files: FileDigests, units: UnitRecords) -> None:
        self._files = files
        self._units = units
        self._toolchains = Toolchains(files, trusted_for=_TOOLCHAIN_SECONDS)
        self._published = PublishedStates()
        self._trust = MacroTrust(self._published)
        self._packages_taken: dict[str, tuple[State, Snapshot]] = {}
        self._known_words: dict[Digest, frozenset[str]] = {}

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

    def roots(self, invocation: Invocation, cwd: str, environment: Mapping[str, str]) -> Roots:
        """The places of the unit. Raises OutsideRoots or NotUnderstood."""
        toolchain = self._toolchains.find(invocation.driver, environment)
        return find_roots(
            cwd=cwd, source=invocation.source, out_dir=invocation.out_dir,
            triple=invocation.target,
            environment=environment, sources=toolchain.sources,
        )  # fmt: skip

    def collect(
        self,
        invocation: Invocation,
        roots: Roots,
        environment: Mapping[str, str],
        files: Iterable[str] = (),
        *,
        looks_again: bool = False,
    ) -> Inputs:
        """Hash what the compile reads. Blocks. Raises NotUnderstood with a reason, or OSError.

        `files` are those outside of its package and OUT_DIR that it is known to read.
        `looks_again`: also at the toolchain's files, of which others may have been looked at just
        before.
        """
        self._published.begin(environment.get("DISTBUILD_BUILD"))
        inputs = Inputs(function=self._files.function)
        toolchain = self._toolchains.find(invocation.driver, environment)
        inputs.is_for_host = _is_for(toolchain.host, invocation)
        driver = os.path.basename(invocation.driver)
        snapshot = self._toolchains.snapshot(
            toolchain, driver, invocation.target, looks_again=looks_again
        )
        inputs.add("toolchain", snapshot, toolchain.sysroot)
        package = self._package(roots)
        inputs.add(staged_or_refuse(roots, roots.package), package, roots.package)
        snapshots = [package]
        if not inputs.is_for_host:
            self._add_target(invocation, roots, environment, inputs)
        out_dir = environment.get("OUT_DIR")
        if out_dir:
            made = self._snapshot(out_dir, skip_in_out_dir)
            inputs.add(staged_or_refuse(roots, out_dir), made, out_dir)
            snapshots.append(made)
        cargo = environment.get("CARGO", "")
        shows_cargo = cargo.startswith((f"{toolchain.sysroot}/", "/usr/"))
        self._dependencies(invocation, roots, inputs, shows_cargo=shows_cargo)
        learned: dict[Digest, Source] = {}
        for path in files:
            for each in (path, *_places_of_module(path)):
                learned |= self._add_file(each, roots, inputs)
        if inputs.macros.libraries:
            sources = [learned, *(each.blobs for each in snapshots)]
            inputs.macros = self._with_named(inputs.macros, sources, environment)
        if driver == "clippy-driver":
            self._clippy_settings(roots, environment, inputs)
        return inputs

    def last_record(self, invocation: Invocation) -> UnitRecord:
        """What the unit was seen to read, the last time that it was compiled."""
        return self._units.last(invocation)

    def _clippy_settings(
        self, roots: Roots, environment: Mapping[str, str], inputs: Inputs
    ) -> None:
        """clippy takes its settings from the package's directory or any above it."""
        if "CLIPPY_CONF_DIR" in environment:
            raise NotUnderstood("clippy's settings come from CLIPPY_CONF_DIR")
        directory = roots.package
        while directory != "/":
            for name in ("clippy.toml", ".clippy.toml"):
                path = os.path.join(directory, name)
                if directory != roots.package:
                    self._add_file(path, roots, inputs)
            directory = os.path.dirname(directory)

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
        _refuse_left_out(path, roots, inputs)
        inputs.add_file(staged_or_refuse(roots, path), self._files.digest(path), path)

    def _add_file(self, path: str, roots: Roots, inputs: Inputs) -> dict[Digest, str]:
        """A file outside of the package, if it is there, which is returned."""
        if not os.path.isfile(path):
            return {}
        _refuse_left_out(path, roots, inputs)
        digest = self._files.digest(path)
        inputs.add_file(staged_or_refuse(roots, path), digest, path)
        return {digest: path}

    def _package(self, roots: Roots) -> Snapshot:
        package, skip = roots.package, skip_in_package(roots.target)
        if not is_published(package):
            return self._snapshot(package, skip, within=roots.workspace)
        state = self._published.of(package)
        taken = self._packages_taken.get(package)
        if taken is None or taken[0] != state:
            taken = state, self._snapshot(package, skip)
            self._packages_taken[package] = taken
        return taken[1]

    def _snapshot(self, directory: str, skip: Skip, *, within: str = "") -> Snapshot:
        try:
            return take_snapshot(directory, self._files, skip, within=within)
        except NotSendable as error:
            raise NotUnderstood(str(error)) from error

    def _dependencies(
        self, invocation: Invocation, roots: Roots, inputs: Inputs, *, shows_cargo: bool
    ) -> None:
        _, record = record_of(invocation)
        closure = self._units.closure(record.externs)
        for stem in closure:
            for path in _artifacts(stem, with_code=invocation.needs_rlibs):
                digest = self._files.digest(path)
                inputs.files[staged_or_refuse(roots, path)] = digest
                inputs.blobs[digest] = path
                inputs.shown[os.path.dirname(path)] = None
        packages = {record.package for record in closure.values()}
        inputs.published = tuple(p for p in packages if is_published(p))
        compiled = roots.package if shows_cargo else None
        inputs.macros = self._macros(record.externs, closure, compiled)
        native = dict.fromkeys(native_paths(invocation))
        if invocation.links:
            inputs.system.extend(record.system)
            inputs.system.extend(name for unit in closure.values() for name in unit.system)
            native.update(dict.fromkeys(path for u in closure.values() for path in u.native))
            # published packages say by their build scripts what they link, but for a few
            own = (p for p in {roots.package, *packages} if p and not is_published(p))
            inputs.attributed = frozenset().union(*(self._trust.linked_by(p) for p in own))
        self._native(native, roots, inputs)

    def _native(self, directories: Iterable[str], roots: Roots, inputs: Inputs) -> None:
        """Directories of native libraries; what lies in another of them is a part of that."""
        taken: list[str] = []
        for directory in sorted(directories):
            staged = staged_or_refuse(roots, directory)
            if not os.path.isdir(directory):
                continue
            _refuse_left_out(directory, roots, inputs)
            if is_below(directory, taken):
                continue
            taken.append(directory)
            if staged not in inputs.directories:
                inputs.add(staged, self._snapshot(directory, skip_in_out_dir), directory)

    def _macros(
        self, externs: Iterable[str], closure: Mapping[str, UnitRecord], compiled: str | None
    ) -> Reads:
        """What macros may read within a compile that has these dependencies."""

        def reads_of(libraries: Iterable[str]) -> Reads:
            return self._trust.reads(self._packages(libraries), compiled=compiled)

        macros = [
            stem
            for stem, record in closure.items()
            if record.may_be_macro and os.path.exists(_shared_library(stem))
        ]
        every = reads_of(macros)
        if every.suspect is None:
            return every
        reads = {stem: reads_of([stem]) for stem in macros}
        suspects = {stem for stem, found in reads.items() if found.suspect is not None}
        nameable = [s for s in self._nameable(externs, closure, suspects) if s in suspects]
        for stem in nameable:
            if not reads[stem].is_seen:
                return reads[stem]
        found = reads_of((set(macros) - suspects).union(nameable))
        handed = self._nameable(externs, closure, nameable)
        libraries = (path for stem in handed for path in _artifacts(stem, with_code=False))
        return replace(found, libraries=tuple(libraries) if nameable else ())

    def _with_named(
        self,
        macros: Reads,
        sources: Iterable[Mapping[Digest, Source]],
        environment: Mapping[str, str],
    ) -> Reads:
        """What macros may read, and the user's variables for which they may ask.

        Their names are in the macros, in what hands these on, or in the sources that use them.
        """
        words: set[str] = set()
        for path in macros.libraries:
            words.update(self._words(path, self._files.digest(path)))
        for blobs in sources:
            for digest, source in blobs.items():
                if isinstance(source, str):
                    words.update(self._words(source, digest))
        # one question for all: each variable is looked for by several patterns
        tokens = " ".join(words)
        named = users_variables(environment, tokens=tokens, named=(), reach="none")
        return replace(macros, variables=macros.variables | named.keys())

    def _words(self, path: str, digest: Digest) -> frozenset[str]:
        """What a file may call a variable. Raises OSError."""
        if digest not in self._known_words:
            if len(self._known_words) >= _MAX_WORDS_OF:
                self._known_words.clear()
            with open(path, "rb") as file:
                content = file.read()
            # what holds zeros is no source: a library is, and it has been asked for by its path
            is_program = content.startswith(b"\x7fELF")
            is_text = is_program or b"\0" not in content[:_BEGINNING]
            words = tokens_of(content).split() if is_text else ()
            self._known_words[digest] = frozenset(words)
        return self._known_words[digest]

    def _nameable(
        self, externs: Iterable[str], closure: Mapping[str, UnitRecord], wanted: Iterable[str]
    ) -> Iterator[str]:
        """The dependencies that the compile can name, of those that are or stand on the wanted."""
        above = set(wanted)
        while more := {
            stem
            for stem, record in closure.items()
            if stem not in above and not above.isdisjoint(record.externs)
        }:
            above |= more
        pending = [stem for stem in externs if stem in above]
        seen: set[str] = set()
        while pending:
            stem = pending.pop()
            if stem in seen:
                continue
            seen.add(stem)
            yield stem
            record = closure[stem]
            names = record.names or ("",) * len(record.externs)
            pending += [
                each
                for name, each in zip(names, record.externs, strict=True)
                if each in above and (not name or self._trust.hands_on(record.package, name))
            ]

    def _packages(self, libraries: Iterable[str]) -> list[str]:
        """The packages that some libraries are made of."""
        made_of = self._units.closure(libraries)
        return list(dict.fromkeys(record.package for record in made_of.values()))


def _is_for(host: str, invocation: Invocation) -> bool:
    return invocation.target_file is None and invocation.target in (None, host)


def _shared_library(stem: str) -> str:
    directory, name = os.path.split(stem)
    return f"{directory}/lib{name}.so"


def _artifacts(stem: str, *, with_code: bool) -> Iterator[str]:
    """The files of a dependency that a compile reads: metadata, and code where it links."""
    directory, name = os.path.split(stem)
    candidates = [f"lib{name}.rmeta", f"lib{name}.so"]
    if with_code:
        candidates.append(f"lib{name}.rlib")
    found = [p for p in (f"{directory}/{c}" for c in candidates) if os.path.exists(p)]
    if not found and not with_code:
        rlib = f"{directory}/lib{name}.rlib"
        found = [rlib] if os.path.exists(rlib) else []
    if not found:
        raise NotUnderstood(f"its dependency {name} is not in {directory}")
    return iter(found)


def _places_of_module(path: str) -> list[str]:
    """Where else than in this file rustc looks for a module, and fails when it finds both."""
    stem, suffix = os.path.splitext(path)
    if suffix != ".rs":
        return []
    directory, name = os.path.split(stem)
    return [f"{directory}.rs" if name == "mod" else f"{stem}/mod.rs"]


def _refuse_left_out(path: str, roots: Roots, inputs: Inputs) -> None:
    """Raises NotUnderstood for what an input's directory holds and its digest does not."""
    if inputs.is_left_out(path, target=roots.target):
        raise NotUnderstood(f"reads {path}, which has no shared name")


def staged_or_refuse(roots: Roots, path: str) -> str:
    """The place of a path in the input root. Raises NotUnderstood when it has none."""
    staged = roots.staged(path)
    if staged is None:
        raise NotUnderstood(f"reads {path}, which has no shared name")
    return staged
