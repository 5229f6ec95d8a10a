"""Where things are: the user's directories, their places in the input root, and their names in
artifacts.

A path exists in three forms. *Real*: in this checkout. *Staged*: in an action's input root, where
`ROOT` stands for a directory that only the worker knows. *Recorded*: what rustc writes into
artifacts by way of --remap-path-prefix, the same for everybody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from wrapper.layout import target_of
from wrapper.replacing import replace_all

ROOT = "\x01ROOT\x01"
"""Stands for the input root's absolute path; no environment or argument can hold this by itself."""

ROOT_DIRECTORY = "_cargo_distbuild_root_"
"""The directory of the input root that holds everything. An output that contains this name has
recorded where it was made, and is not shared."""

OUTPUTS = "outputs"
RECORDED_CARGO = "/distbuild/cargo"
"""Where artifacts say that CARGO_HOME is; no real path should look like it."""
_OUTSIDE = "package/"
_UP = re.compile(r"/\.\.(?:/|$)")
_IN_CARGO_HOME = re.compile(r"(registry/src|git/checkouts)/[^/]+/.+")
_IN_REPOSITORY = re.compile(r"(git/checkouts/[^/]+/[^/]+)(/.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One directory in its three forms.

    `staged` is relative to the input root; empty for what is never sent to a worker.
    """

    real: str
    staged: str
    recorded: str

    @property
    def is_of_checkout(self) -> bool:
        """Whether it lies elsewhere for each checkout of a user's."""
        first = self.staged.partition("/")[0]
        return first in ("target", "workspace") or self.staged.startswith(_OUTSIDE)


@dataclass(frozen=True)
class Roots:
    """The places of one unit, the longest real path last (the order rustc's remapping wants)."""

    places: tuple[Place, ...]
    workspace: str
    package: str
    out_dir: str
    target: str

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The target directory as cargo calls it, and as it is called where it really lies."""
        return tuple(dict.fromkeys((self.target, os.path.realpath(self.target))))

    @property
    def outside(self) -> str:
        """What artifacts call the package, if it lies neither in the workspace nor in CARGO_HOME;
        else nothing."""
        places = (p for p in self.places if p.staged.startswith(_OUTSIDE))
        return next((p.recorded for p in places if p.real == self.package), "")

    def with_outside(self, packages: Mapping[str, str]) -> Roots:
        """The same with dependencies' packages that lie so: real paths, and their names.

        rustc undoes them to show a line of a dependency in a message.
        """
        known = {place.real for place in self.places}
        places = [*self.places]
        places += [
            Place(real=real, staged="", recorded=recorded)
            for real, recorded in sorted(packages.items())
            if real not in known
        ]
        return replace(self, places=tuple(sorted(places, key=lambda place: len(place.real))))

    def with_links_followed(self) -> Roots:
        """The same with where the places, the package and `out_dir` really lie, behind links."""
        known = {place.real for place in self.places}
        named = {place.real: place.staged for place in self.places if place.staged}
        for path in (self.package, self.out_dir):
            if staged := self.staged(path):
                named[path] = staged
        real = {os.path.realpath(path): staged for path, staged in named.items()}
        found = self
        for path in sorted(real.keys() - known):
            if found.staged(path) != real[path]:
                place = Place(real=path, staged=real[path], recorded="")
                found = replace(found, places=(*found.places, place))
        return found

    def staged(self, path: str) -> str | None:
        """The place of an absolute real path in the input root, or None when it is outside, or
        leads upwards on its way."""
        for place in reversed(self.places):
            if not place.staged:
                continue
            if path == place.real:
                return place.staged
            if path.startswith(place.real + "/"):
                rest = path[len(place.real) :]
                return None if _UP.search(rest) else place.staged + rest
        return None

    def left_upwards(self, path: str) -> Iterator[str]:
        """The directories in places, on the way of an absolute path, from which that goes up again;
        `..` in the name of a place is cargo's own."""
        if "/.." not in path:
            return
        places = (place.real for place in reversed(self.places))
        here = next((each for each in places if path.startswith(f"{each}/")), "")
        for name in path[len(here) + 1 :].split("/"):
            if name == "..":
                if self.staged(here) is not None:
                    yield here
                here = os.path.dirname(here)
            elif name not in ("", "."):
                here = f"{here}/{name}"

    @cached_property
    def _by_staged(self) -> list[Place]:
        # of two names for one directory that with `..` is cargo's
        there = (p for p in self.places if p.staged)
        return sorted(there, key=lambda p: (-len(p.staged), "/../" not in p.real))

    def real(self, staged: str) -> str | None:
        """Undo `staged`; None for what lies in none of the places."""
        for place in self._by_staged:
            if staged == place.staged or staged.startswith(place.staged + "/"):
                return place.real + staged[len(place.staged) :]
        return None

    def unstage_text(self, text: str) -> str:
        """Undo `stage_text`."""
        for place in self._by_staged:
            text = text.replace(f"{ROOT}/{place.staged}", place.real)
        return text

    @cached_property
    def _staging(self) -> dict[str, str]:
        return {p.real: f"{ROOT}/{p.staged}" for p in self.places if p.staged}

    def stage_text(self, text: str) -> str:
        """Replace every real path in a text by its staged form under ROOT."""
        return replace_all(text, self._staging, _is_path)

    def remap_options(self, *, staged: bool) -> list[str]:
        """The --remap-path-prefix options for a compile in the input root, or for one here. rustc
        takes the last that fits."""
        if not staged:
            return [f"--remap-path-prefix={p.real}={p.recorded}" for p in self.places]
        # in an order that is the same for whoever has these places, however long their paths are
        there = dict.fromkeys((p.staged, p.recorded) for p in self.places if p.staged)
        return [f"--remap-path-prefix={ROOT}/{s}={r}" for s, r in sorted(there)]

    def staged_to_real(self, root: str) -> list[tuple[str, str]]:
        """Replacements that turn what a worker wrote, with its own root, into real paths."""
        pairs = [(f"{root}/{OUTPUTS}", self.out_dir)]
        return pairs + [(f"{root}/{p.staged}", p.real) for p in self.places if p.staged]

    def recorded_to_real(self) -> list[tuple[str, str]]:
        """Replacements that turn recorded paths in messages into real ones."""
        pairs = [(p.recorded + "/", p.real + "/") for p in self.places]
        return sorted(pairs, key=lambda pair: -len(pair[0]))


def _is_path(text: str, start: int, end: int) -> bool:
    """Whether a path, or a part of one that ends at a slash, stands there by itself."""
    before, after = text[start - 1 : start], text[end : end + 1]
    is_begun = before.isalnum() or (before != "" and before in "_./~@-")
    is_begun &= text[max(start - 2, 0) : start] not in ("-I", "-L", "-T")
    return not is_begun and (after == "" or after in "/:;,\"'=" or after.isspace())


class OutsideRoots(Exception):
    """The package or its output lies where no shared name can be given; the message says so."""


def target_directory(out_dir: str, triple: str | None = None) -> str:
    """The target directory that an `--out-dir` of cargo's lies in.

    That is `<target>[/<triple>]/<profile>/` with more below (layout.py); `triple` is the compile's
    `--target`. Raises OutsideRoots for any other form.
    """
    target = target_of(out_dir)
    if target is None:
        raise OutsideRoots(f"the output directory {out_dir} is not one of cargo's")
    if triple is not None and os.path.basename(target) == triple:
        target = os.path.dirname(target)
    return target


def _repository(package: str, environment: Mapping[str, str]) -> Iterator[Place]:
    """The place of the repository around a package that cargo took from one: members include files
    of its root."""
    rest = package.removeprefix(f"{cargo_home(environment)}/")
    match = _IN_REPOSITORY.fullmatch(rest)
    if match is not None:
        real, name = package.removesuffix(match[2]), match[1]
        yield Place(real=real, staged=f"cargo/{name}", recorded=f"{RECORDED_CARGO}/{name}")


def _package_place(package: str, environment: Mapping[str, str]) -> Place:
    """The place of a package that is not part of the workspace."""
    rest = package.removeprefix(f"{cargo_home(environment)}/")
    if _IN_CARGO_HOME.fullmatch(rest):
        return Place(real=package, staged=f"cargo/{rest}", recorded=f"{RECORDED_CARGO}/{rest}")
    name = f"{environment.get('CARGO_PKG_NAME', '')}-{environment.get('CARGO_PKG_VERSION', '')}"
    return Place(
        real=package, staged=f"{_OUTSIDE}{name}", recorded=f"{RECORDED_CARGO}/package/{name}"
    )


def without_dots(path: str) -> str:
    """The same without `..`, which cargo leaves in a vendor directory's name, if that leads there;
    else as it is."""
    normal = os.path.normpath(path)
    if normal == path or os.path.realpath(normal) == os.path.realpath(path):
        return normal
    return path


def _package_of(environment: Mapping[str, str], *, workspace: str | None) -> str:
    """The directory of the package, which lies in the workspace if it is a member of one."""
    package = environment.get("CARGO_MANIFEST_DIR")
    if not package or not os.path.isabs(package):
        raise OutsideRoots("cargo gave no CARGO_MANIFEST_DIR")
    package = without_dots(package)
    if workspace and package != workspace and not package.startswith(workspace + "/"):
        raise OutsideRoots(f"package {package} lies outside of the workspace {workspace}")
    return package


def _with_dots(package: str, owner: Place, environment: Mapping[str, str]) -> Iterator[Place]:
    """The package by the name that cargo has for it, if that is another, in its owner's place."""
    named = environment["CARGO_MANIFEST_DIR"]
    if named != package:
        rest = package.removeprefix(owner.real)
        yield Place(real=named, staged=owner.staged + rest, recorded=owner.recorded + rest)


def find_roots(
    *,
    cwd: str,
    source: str,
    out_dir: str,
    triple: str | None,
    environment: Mapping[str, str],
    sources: Place | None,
) -> Roots:
    """The places of a unit that cargo compiles in `cwd`.

    cargo starts rustc for a package of the workspace in the workspace's root with a relative
    source path, and for any other in the package's own directory with an absolute one. `sources`
    is the standard library's source, where the toolchain has it. Raises OutsideRoots.
    """
    target, cwd = target_directory(out_dir, triple), without_dots(cwd)
    home = cargo_home(environment)
    is_member = not os.path.isabs(source)
    package = _package_of(environment, workspace=cwd if is_member else None)
    places = [Place(real=target, staged="target", recorded="/proc/self/cwd/target")]
    own = Place(real=cwd, staged="workspace", recorded="/proc/self/cwd")
    if not is_member:
        own = _package_place(package, environment)
    places += [own, *_with_dots(package, own, environment), *_repository(package, environment)]
    if sources is not None:
        places.append(sources)
    # as in `with_outside`
    places += [
        Place(real=f"{home}/{part}", staged="", recorded=f"{RECORDED_CARGO}/{part}")
        for part in ("registry", "git")
    ]
    places.sort(key=lambda p: len(p.real))
    return Roots(
        places=tuple(places),
        workspace=cwd if is_member else package,
        package=package,
        out_dir=out_dir,
        target=target,
    )


def cargo_home(environment: Mapping[str, str]) -> str:
    """CARGO_HOME, or where cargo takes it to be."""
    return environment.get("CARGO_HOME") or f"{environment.get('HOME', '')}/.cargo"
