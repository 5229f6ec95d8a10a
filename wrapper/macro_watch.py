"""Did a compile that was watched read its inputs alone?

Macros, linkers and assembly read what no dep-info names. A watcher notes what rustc, and with it
they, ask the kernel for. Where all of that is in the key, the compile gives the same for whoever
has that key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from wrapper.asked import asked_for, is_told, other_than_variables
from wrapper.build_scripts.accesses import (
    Seen,
    Surroundings,
    decode,
    left_behind,
    sort_out,
)
from wrapper.build_scripts.names import above, all_above, is_below
from wrapper.inputs.apart import is_apart
from wrapper.inputs.collect import CLIPPY_SETTINGS
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.loaded_libraries import LOADED
from wrapper.inputs.snapshot import RealPlaces, is_left_out, real_place
from wrapper.inputs.toolchain import OTHER_LIBRARY
from wrapper.inputs.unit_records import NOTHING, Learned
from wrapper.inputs.upwards import CONFIGURATION, Upwards
from wrapper.linked import check_linked, libraries_taken
from wrapper.recorded import NotKept
from wrapper.result_checks import Unit
from wrapper.roots import Roots
from wrapper.rustc.by_name import BY_NAME, compiler_by_name, is_of_rustup
from wrapper.sandbox import jobserver_fifo
from wrapper.ways import leads_elsewhere

_LOADED = re.compile(rf"{LOADED.pattern}|/etc/malloc\.conf|/rustc/(?:[0-9a-f]{{40}}|1\.[\w.-]+)/.*")
"""What programs are loaded with; where rustc's allocator looks for settings, and rustc itself for
the standard library's sources, by the names that it was built with, to quote them in messages."""

_LOADERS = re.compile(
    r"(/(glibc-hwcaps|tls|haswell|xeon_phi|avx512_1|x86[_-]64(-v\d)?|aarch64|atomics))*"
    r"(/lib[^/]+\.so[-.\w]*)?"
)
"""What is looked for in each directory of libraries, and those in it for kinds of processors:
rustc's `libLLVM.so.22.1-rust-1.95.0-stable`, too."""

_RANDOM = re.compile(r"/dev/u?random|/proc/sys/kernel/random/.*")

_LINKERS = (
    "/usr/share/locale",
    "/usr/x86_64-linux-gnu",
    "/usr/aarch64-linux-gnu",
    *("/bin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec"),
    *("/usr/local/bin", "/usr/local/lib"),
    "/etc/alternatives",
    *(f"/etc/{name}" for name in ("debian_version", "lsb-release", "os-release", "redhat-release")),
    *(f"/etc/{name}" for name in ("alpine-release", "gentoo-release", "SuSE-release")),
)
_ABOVE_LINKERS = ("/usr", "/usr/local", "/usr/share", "/etc", "/opt")
"""Where the linker and its kind look, which keys name as a whole (remote_apis/link_set.py)."""

_DOTS = re.compile(r"/(\.?/|\.\.)")
_CORES = "/proc/cpuinfo"
"""By which linkers that optimize count what they may do at once."""

_OF_NETWORK = re.compile(
    r".*/(?:gitconfig|\.gitconfig|git/config)|/etc/(?:ssl|pki|ca-certificates)(?:/.*)?"
)
"""What cargo looks at whenever it starts, for when it fetches something."""

_LINKER = re.compile(
    r"(?:[\w.]+-)*(?:cc|gcc|g\+\+|c\+\+|clang|clang\+\+|lld|ld|mold|wild|collect2|lto-wrapper|lto1|as)"
    r"(?:[-.][\w.]+)?"
)


def check_reads(accesses: bytes, unit: Unit, inputs: Inputs, learned: Learned = NOTHING) -> None:
    """Raises NotKept for what a compile did that its key says nothing of. Blocks.

    `accesses` are what the watcher noted, with those of other processes than rustc's own in
    capitals: the linker's, where the unit links. `learned` is what it turned out to read, which
    its key will have.
    """
    noted = decode(accesses)
    if not noted:
        raise NotKept("its watcher saw nothing")
    if inputs.macros.suspect is not None and not is_told(accesses):
        raise NotKept("its watcher is not told of variables")
    around = _surroundings(unit)
    own = sort_out((each for each in noted if not each[0].isupper()), around)
    others = sort_out(((kind.lower(), path) for kind, path in noted if kind.isupper()), around)
    left = left_behind(own) or left_behind(others)
    trouble = own.trouble or others.trouble or (left and f"it leaves {left} behind")
    if trouble:
        raise NotKept(trouble)
    _check_asked(own, noted, inputs)
    # cargo has programs look for libraries, and rustc for crates, where dependencies are
    deps = [path for kind, path in unit.invocation.library_paths if kind == "dependency"]
    _check_made(noted, unit, inputs, {unit.roots.out_dir, *deps})
    # of a directory beside the package the key says that it is one, or has all that is in it
    directories = set(filter(os.path.isdir, learned.files))
    known = _added(set(learned.files) - directories, unit, inputs)
    listed = filter(os.path.isdir, learned.directories)
    places = _Places(inputs, unit.roots, [*known, *deps, *listed])
    _check_others(others, unit, inputs, places)
    check_linked(
        (path for path, kind in sorted(others.reads.items()) if kind == "o"), unit, inputs, learned
    )
    for path, kind in sorted(own.reads.items()):
        is_known = places.has(path, is_opened=kind == "o") or _LOADED.fullmatch(path) is not None
        is_known |= kind != "o" and path in directories
        is_of_rustc = _is_of_rustc(path, unit, inputs) or _is_of_loader(path, kind, unit, inputs)
        if not is_known and not is_of_rustc:
            raise NotKept(f"the compile reads {path}, which no key names")


def _added(names: Iterable[str], unit: Unit, inputs: Inputs) -> list[str]:
    """The paths of files that a compile turned out to read, but for what the key has with all
    around it, which may be listed."""
    upwards = Upwards(unit.roots, unit.environment)
    paths = (path for name in names for path in upwards.paths(name))
    return [p for p in paths if not is_below(p, inputs.shown) or inputs.is_left_out(p)]


def check_watched_ways(accesses: bytes, unit: Unit, inputs: Inputs) -> None:
    """Raises NotKept for what a compile read by a way that may lead elsewhere for others who have
    its key, `inputs`: but for directories of libraries, which are looked at for each key."""
    for kind, path in decode(accesses):
        if (
            kind in "oO"
            and leads_elsewhere(path, unit.roots, inputs)
            and not is_below(os.path.normpath(path), inputs.native)
        ):
            raise NotKept(f"the compile reads {path}, which no key names")


def _check_asked(own: Seen, noted: Iterable[tuple[str, str]], inputs: Inputs) -> None:
    """Raises NotKept for what is another each time."""
    what = other_than_variables(own.asked)
    # until 1.82 rustc does so itself, for the names of its files
    is_macros = inputs.macros.suspect is not None
    if is_macros and any(kind == "o" and _RANDOM.fullmatch(path) for kind, path in noted):
        what = what or "random numbers"
    if what is not None:
        raise NotKept(f"a macro asks for {what}")


def _check_made(
    noted: Iterable[tuple[str, str]], unit: Unit, inputs: Inputs, directories: Collection[str]
) -> None:
    """Raises NotKept for what rustc itself does not look at where it makes its files, and
    dependencies', but for libraries whose names begin with nothing, as for wasm32."""
    names = (unit.invocation.crate_name, "lib", "rmeta", "rustc", ".tmp")
    real_places = RealPlaces()
    nearest = sorted((f"{each}/" for each in directories), key=len, reverse=True)
    for kind, noted_path in noted:
        if kind not in "ocm":
            continue
        path = _without_dots(noted_path, real_places)
        around = next((each for each in nearest if path.startswith(each)), None)
        if around is None or path[len(around) :].startswith(names):
            continue
        staged = unit.roots.staged(path)
        if staged is not None and (staged in inputs.files or is_below(staged, inputs.directories)):
            continue
        if os.path.exists(path):  # where loaders look in vain macros may do so too
            raise NotKept(f"the compile reads {path}, which no key names")


def learned_watching(accesses: bytes, unit: Unit, inputs: Inputs) -> Learned:
    """What a compile was seen to read that every key has not, and can have. Blocks."""
    noted = decode(accesses)
    asked = asked_for(accesses, unit.environment)
    if _compilers(unit, {path for kind, path in noted if kind == "X"}):
        asked |= {BY_NAME}
    return Learned(
        files=_beside(noted, unit, inputs),
        asked=asked,
        libraries=libraries_taken(noted, inputs) if unit.invocation.links else frozenset(),
    )


def _beside(noted: Collection[tuple[str, str]], unit: Unit, inputs: Inputs) -> tuple[str, ...]:
    """Files beside the package that macros read or looked for: in the workspace, or a dependency's
    repository, where it may have been cargo for them, and upwards from there. And what the linker
    read there."""
    roots = unit.roots
    ways = (way for kind, path in noted if kind in "oO" for way in roots.left_upwards(path))
    apart = [way for way in dict.fromkeys(ways) if is_apart(way, unit.invocation, roots)]
    real_places = RealPlaces()
    noted = [(kind, _without_dots(path, real_places)) for kind, path in noted]
    repository = (each.real for each in roots.places if each.staged.startswith("cargo/git/"))
    around = (roots.workspace, *repository)
    own = {path for kind, path in noted if kind in "os"}
    names: dict[str, None] = {}
    if ("X", unit.environment.get("CARGO")) in noted:
        noted = [(kind.lower(), path) for kind, path in noted]
        names[CONFIGURATION] = None
    elif unit.invocation.links:
        noted = [("o" if kind == "O" else kind, path) for kind, path in noted]
    outside = [(kind, path) for kind, path in noted if kind in "os" and _is_outside(path, unit)]
    upwards = Upwards(roots, unit.environment)
    names |= dict.fromkeys(upwards.names((path for _, path in outside), own))
    if not names and not any(is_below(path, around) for _, path in outside):
        return tuple(apart)
    reads = sort_out(outside, _surroundings(unit)).reads
    return (*names, *apart, *_taken(reads, around, unit, inputs))


def _taken(
    reads: Mapping[str, str], around: Collection[str], unit: Unit, inputs: Inputs
) -> Iterator[str]:
    """What of some reads a key can have, of what lies in some directories and it has not."""
    roots = unit.roots
    places = _Places(inputs, roots, ())
    for path, kind in sorted(reads.items()):
        if not is_below(path, around) or is_below(path, (roots.target,)):
            continue
        if places.has(path, is_opened=kind == "o"):
            continue
        if inputs.is_left_out(path) and not is_apart(path, unit.invocation, roots):
            continue
        if not _is_listed(path, kind):
            yield path
        elif _may_be_taken(path, roots):
            yield f"{path}/"


def _is_outside(path: str, unit: Unit) -> bool:
    """Whether a path is in neither the target directory nor what every key has of the package."""
    roots = unit.roots
    if "/.." in path or not is_below(path, (roots.package, roots.target)):
        return True
    return is_apart(path, unit.invocation, roots)


def _without_dots(path: str, places: RealPlaces) -> str:
    """The same without `..`, where that leads to the same."""
    normal = os.path.normpath(path) if _DOTS.search(path) else path
    if normal == path:
        return path
    before, after = (places.directory(os.path.dirname(each)) for each in (path, normal))
    return normal if before == after else path


def _is_listed(path: str, kind: str) -> bool:
    """Whether it is a directory, and more was asked than that."""
    return kind == "o" and os.path.isdir(path)


def _may_be_taken(directory: str, roots: Roots) -> bool:
    """Whether a key may have a directory with all that is in it, which is more than its names, but
    what whoever lists it reads then. Not one of a package, of which keys have all that counts, nor
    around what they have otherwise, nor of what no package has."""
    names = directory.removeprefix(f"{roots.workspace}/").split("/")
    if any(map(is_left_out, names)):
        return False
    inside = (roots.package, roots.target, roots.out_dir, *(each.real for each in roots.places))
    return not is_below(directory, (roots.package,)) and not any(
        is_below(each, (directory,)) for each in inside
    )


def _is_of_rustc(path: str, unit: Unit, inputs: Inputs) -> bool:
    """Whether rustc itself looks there for what the key has, or for nothing: settings of clippy,
    which is asked for in all directories above; directories of libraries, which it lists; sources
    of dependencies, to quote them where their metadata, an input, has their hash."""
    directory, name = os.path.split(path)
    if unit.invocation.is_clippy and name in CLIPPY_SETTINGS:
        return directory in (unit.roots.package, *above(unit.roots.package))
    if path in inputs.native and not os.path.exists(path):
        return True  # would be an input
    if path in inputs.searched:
        return True
    sysroot = path.removesuffix(OTHER_LIBRARY)
    if sysroot != path and f"{sysroot}/lib/rustlib" in inputs.shown and not os.path.exists(path):
        return True
    is_quoted = name.endswith(".rs") and is_below(path, inputs.unpublished)
    return is_quoted and inputs.macros.suspect is None


def _is_of_loader(path: str, kind: str, unit: Unit, inputs: Inputs) -> bool:
    """Whether programs look there for the libraries that they are loaded with, in vain: a test that
    runs cargo has LD_LIBRARY_PATH, which cargo sets for it; a distribution's rustc has its own in
    one of several directories."""
    if os.path.exists(path) and not (kind == "s" and os.path.isdir(path)):
        return False
    searched = unit.environment.get("LD_LIBRARY_PATH", "").split(":")
    rests = (path.removeprefix(each) for each in searched if each and is_below(path, (each,)))
    if any(_LOADERS.fullmatch(rest) for rest in rests):
        return True
    own = _both_forms(os.path.dirname(each) for each in inputs.loaded)
    # LLVM's names the latter as the way from where it lies
    searched = [*own, *(os.path.normpath(f"{each}/../lib") for each in own)]
    names = {os.path.basename(each) for each in inputs.loaded}
    rests = (path.removeprefix(each) for each in searched if is_below(path, (each,)))
    found = filter(None, map(_LOADERS.fullmatch, rests))
    looked_for = {match.group(4) or "" for match in found}
    return any(
        not each or each[1:] in names or LOADED.fullmatch(f"/lib{each}") for each in looked_for
    )


def _check_others(seen: Seen, unit: Unit, inputs: Inputs, places: _Places) -> None:
    """Raises NotKept unless these are the linker and what it starts; cargo, which macros ask about
    the workspace; or the build's own compiler by its name, which they ask for its version."""
    cargo = unit.environment.get("CARGO", "")
    # the toolchain's own; other programs' versions no key has
    cargos = {cargo} & seen.programs if places.has(cargo, is_opened=True) else set()
    compilers = _compilers(unit, seen.programs)
    for path in sorted(seen.programs - cargos - compilers):
        if not (unit.invocation.links and _is_linker(path, places)):
            raise NotKept(f"the compile runs {path}, and nobody knows what that reads")
    for path, kind in sorted(seen.reads.items()):
        # what the linker does not find here, it does not find where it sees its inputs alone
        if not (
            places.has(path, is_opened=kind == "o")
            or is_below(path, _LINKERS)
            or path in _ABOVE_LINKERS
            or path == _CORES
            or (cargos and (_OF_NETWORK.fullmatch(path) or (kind == "s" and os.path.isdir(path))))
            or (compilers and (path in compilers or is_of_rustup(path, unit.environment)))
            or _is_of_loader(path, kind, unit, inputs)
            or not os.path.exists(path)
        ):
            raise NotKept(f"what it runs reads {path}, which no key names")


def _compilers(unit: Unit, programs: set[str]) -> frozenset[str]:
    """Those of some programs that run where somebody runs `rustc`."""
    if not any(path.endswith("/rustc") for path in programs):
        return frozenset()
    return compiler_by_name(unit.invocation.driver, unit.environment) & programs


def _surroundings(unit: Unit) -> Surroundings:
    environment = unit.environment
    written = _both_forms(filter(None, (unit.invocation.incremental, unit.roots.out_dir)))
    fifo = jobserver_fifo(environment)
    return Surroundings(
        own=unit.roots.out_dir,
        unseen=(*written, *([fifo] if fifo else [])),
        temporary=environment.get("TMPDIR", "/tmp").rstrip("/") or "/tmp",
    )


def _is_linker(path: str, places: _Places) -> bool:
    is_known = is_below(path, _LINKERS) or places.has(path, is_opened=True)
    return is_known and _LINKER.fullmatch(os.path.basename(path)) is not None


class _Places:
    """What the key covers: by the names that cargo uses, and where these lead."""

    def __init__(self, inputs: Inputs, roots: Roots, more: Iterable[str]) -> None:
        # rustc quotes dependencies' sources, which are those of their names and versions
        shown = _both_forms([*inputs.shown, *inputs.published, *more])
        # what a link among them leads to may be shown by itself
        hidden = {form for path in inputs.left_out for form in (path, real_place(path))}
        self._is_shown = {**dict.fromkeys(hidden, False), **dict.fromkeys(shown, True)}
        around = _both_forms([roots.workspace, roots.out_dir])
        named = {place.real for place in roots.places if "/../" in place.real}  # as cargo does
        self._above = around | all_above(named) | all_above(shown | around)
        self._packages = _both_forms([roots.package])
        # what else is left out has its name in the key, where macros may list directories
        self._unlisted = self._packages | self._above
        self._target = _both_forms([roots.target])
        self._real_places = RealPlaces()
        self._known: dict[str, str] = {}

    def has(self, path: str, *, is_opened: bool) -> bool:
        """Whether the key covers what a program learns of a path."""
        if path in self._above and not is_opened:
            return True
        if is_opened and path in self._unlisted and os.path.isdir(path):
            return False  # a listing tells more than the key
        if not self._is_shown.get(self._nearest(path), False):
            return False
        # through a link to a directory it may be what another place leaves out
        return self._is_shown.get(self._nearest(self._real_places.of(path)), True)

    def _nearest(self, path: str) -> str:
        """What the key has, or leaves out, that a path is or lies below."""
        known = self._known.get(path)
        if known is None:
            directory, name = os.path.split(path)
            if path in self._is_shown:
                known = path
            elif directory in self._packages and (is_left_out(name) or path in self._target):
                known = "/"  # it may come and go, and no key changes
            else:
                known = "/" if directory == path else self._nearest(directory)
            self._known[path] = known
        return known


def _both_forms(paths: Iterable[str]) -> set[str]:
    return {form for path in paths for form in (path, os.path.realpath(path))}
