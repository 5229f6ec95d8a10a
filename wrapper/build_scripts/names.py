"""Names of paths that mean the same in any checkout, for any user.

A path below one of the run's places has the place's staged name. One that lies beside the way to a
place, where programs look upwards (`.git`, `.cargo/config.toml`), is named by `above:` and stands
for all directories above all places. The rest, the system's own, keeps its path.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace

from wrapper.roots import ROOT, Place, Roots, cargo_home

ABOVE = "above:"
"""Begins the name of what lies above a place."""

HOME = "home"
"""Begins the name of what lies in the user's."""

_CARGO_HOME, _TEMPORARY = "cargo-home", "tmp"
_OF_USER = (HOME, _CARGO_HOME, _TEMPORARY)
_USUAL_IN_HOME = frozenset(
    f".{name}"
    for name in (
        *("config", "local", "cache", "cargo", "rustup", "gitconfig", "git-credentials", "ssh"),
        *("gnupg", "pki", "netrc", "ccache", "docker", "npm", "npmrc", "nvm", "pyenv", "asdf"),
        *("profile", "bashrc", "bash_profile", "zshrc", "terminfo"),
    )
)  # fmt: skip
"""What programs keep for the user, and look for in HOME alone."""

WRAPPERS = ("RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER")
"""Variables that name the shim."""

_OF_COMPILER = re.compile(r"rustlib|lib(rustc_driver|std|test|LLVM)[-.\w]*")
"""What a compiler that is installed by itself has in its `lib`."""

_SYSTEM = tuple(
    f"/{name}"
    for name in ("usr", "lib", "lib32", "lib64", "libx32", "bin", "sbin", "etc", "opt", "proc",
                 "sys", "dev", "var", "run", "nix")
)  # fmt: skip


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Whether a path is, or lies below, one of the directories."""
    return any(path == each or path.startswith(each + "/") for each in directories)


class Names:
    """Names under the places of one run; `search` is its PATH."""

    def __init__(self, roots: Roots, search: str = "") -> None:
        self.roots = roots
        self._search = [each.rstrip("/") for each in search.split(":") if each.startswith("/")]
        self._places = [place for place in roots.places if place.staged]
        self._above = _longest_first(all_above(place.real for place in self._places))
        own = [p for p in self._places if p.is_of_checkout]
        within = [p.real for p in own if p.staged != "target"]
        # who goes up from OUT_DIR may mean what lies beside a target directory elsewhere
        self._own = within + [p.real for p in own if not is_below(p.real, within)]
        self._around = _longest_first(all_above(self._own))
        self._home = roots.real(HOME) or ""

    def leads_here(self, path: str) -> bool:
        """Whether the path is a directory above a place: it is there for everybody."""
        return path in self._above

    def name(self, path: str) -> str:
        """The name of an absolute path."""
        return self.roots.staged(path) or _beside(path, self._above) or path

    def meant(self, path: str, named: Collection[str], looked: Container[str]) -> set[str]:
        """The names that may have been meant by an absolute path, `named` so with `..`, by who also
        `looked` at others: in the user's directories something may lie where the user keeps it, or
        beside the checkout, and so may what was reached from another place."""
        name = self.name(path)
        is_beside = any(self._leaves_place(each) for each in named)
        is_of_user = name.partition("/")[0] in _OF_USER and not is_below(path, self._own)
        is_beside |= is_of_user and self._is_around(path, looked)
        return {name, _beside(path, self._around) or name} if is_beside else {name}

    def tells_around(self, data: bytes | mmap.mmap) -> bool:
        """Whether data holds a path, real or staged, of what lies in HOME around the checkout, if
        that is there."""
        begins = [os.fsencode(each) for each in (f"{self._home}/", f"{ROOT}/{HOME}/")]
        if self._home not in self._around or all(data.find(each) < 0 for each in begins):
            return False
        below = (each for each in self._own if is_below(each, (self._home,)))
        tops = {each[len(self._home) + 1 :].partition("/") for each in below}
        usual = "|".join(map(re.escape, sorted(_USUAL_IN_HOME)))
        end = r"(?![\w.-])"
        ways = [
            f"{re.escape(top)}{end}" if rest else rf"(?!(?:{usual}){end})[\w.]"
            for top, _, rest in tops
        ]
        pattern = b"(?:%s)(?:%s)" % (b"|".join(map(re.escape, begins)), os.fsencode("|".join(ways)))
        return re.search(pattern, data) is not None

    def _is_around(self, path: str, looked: Container[str]) -> bool:
        """Whether a path may be meant by the way to the checkout. What programs keep in HOME itself
        is the user's, but for who looked for that name on the way to there."""
        if self.is_searched(path):
            return False
        directory = next((d for d in self._around if is_below(path, (d,))), "/")
        if directory != self._home:
            is_in_home = self._home != "" and is_below(path, (self._home,))
            return is_below(directory, (self._home,)) if is_in_home else directory != "/"
        name = path[len(self._home) + 1 :]
        nearer = (each for each in self._around if os.path.dirname(each) == self._home)
        is_usual = name.partition("/")[0] in _USUAL_IN_HOME
        return not is_usual or any(f"{d}/{name}" in looked for d in (*nearer, *self._own))

    def _leaves_place(self, path: str) -> bool:
        """Whether a way goes up out of one of the places."""
        return any(
            self._place(way) != self._place(os.path.dirname(way))
            for way in self.roots.left_upwards(path)
        )

    def _place(self, path: str) -> str | None:
        found = (each.real for each in reversed(self._places) if is_below(path, (each.real,)))
        return next(found, None)

    def is_searched(self, path: str) -> bool:
        """Whether a path is one where a program is looked for by its name alone."""
        return os.path.dirname(path) in self._search

    def on_path(self, name: str) -> list[tuple[str, str]]:
        """The first program of that name on PATH, and, where that is before it, the first of
        anything: each with a word for it, and where it really is, as what else it reads may lie
        beside it."""
        paths = [f"{directory}/{name}" for directory in self._search]
        there = next((p for p in paths if os.path.exists(p)), None)
        program = next((p for p in paths if os.access(p, os.X_OK) and os.path.isfile(p)), None)
        found = [("", program)] + ([("first", there)] if there != program else [])
        return [
            (word, os.path.join(os.path.realpath(os.path.dirname(path)), name))
            for word, path in found
            if path is not None
        ]

    def paths(self, name: str) -> list[tuple[str, str]]:
        """The paths that a name stands for here, each with a word that says which it is."""
        if name.startswith("/"):
            return [("", name)]
        if name.startswith(ABOVE):
            rest = name.removeprefix(ABOVE)
            return [
                (f"{place.staged}^{level}", os.path.join(directory, rest))
                for place in self._places
                for level, directory in enumerate(above(place.real))
                if directory != "/"
            ] + [("/", "/" + rest)]
        return [("", self.roots.real(name) or f"/{name}")]


def _beside(path: str, ways: Iterable[str]) -> str | None:
    """The name by which something lies beside some directories, the longest of which come first."""
    for directory in ways:
        if directory == "/" and is_below(path, _SYSTEM):
            break
        if path.startswith(directory.rstrip("/") + "/"):
            return ABOVE + path[len(directory.rstrip("/")) + 1 :]
    return None


def _longest_first(directories: Iterable[str]) -> list[str]:
    return sorted(directories, key=len, reverse=True)


def all_above(paths: Iterable[str]) -> set[str]:
    """The directories above any of some paths."""
    found: set[str] = set()
    for path in paths:
        for each in above(path):
            if each in found:
                break  # and so is what is above that
            found.add(each)
    return found


def above(path: str) -> Iterator[str]:
    """The directories above an absolute path, the nearest first; it may begin with two slashes."""
    while (parent := os.path.dirname(path)) != path:
        path = parent
        yield path


def home_within(roots: Roots, environment: Mapping[str, str]) -> dict[str, str]:
    """HOME where that lies in the checkout, as a build service may have it: it has no names of its
    own there."""
    home = environment.get("HOME", "")
    places = (place.real for place in roots.places if place.is_of_checkout)
    return {"HOME": home} if is_below(home.rstrip("/"), places) else {}


def _wrappers_home(environment: Mapping[str, str]) -> str:
    """DISTBUILD_HOME, by the shim that lies there: the crate cc prints the shim's path."""
    for name in WRAPPERS:
        directory, _, shim = environment.get(name, "").rpartition("/bin/")
        if shim == "rustc-shim":
            return directory
    return ""


def _temporary(roots: Roots, environment: Mapping[str, str]) -> str:
    """A directory for temporary files of the user's own: not one in which all else lies."""
    path = environment.get("TMPDIR", "").rstrip("/")
    is_own = path != "/tmp" and not any(is_below(place.real, (path,)) for place in roots.places)
    return path if is_own else ""


def is_shared(sysroot: str) -> bool:
    """Whether a compiler lies among others' files, as in /usr, ~/.local or a prefix of conda's, or
    that cannot be told. Blocks."""
    try:
        return not all(map(_OF_COMPILER.fullmatch, os.listdir(f"{sysroot}/lib")))
    except OSError:
        return True


def _sysroot(environment: Mapping[str, str]) -> str:
    """The directory of the toolchain, where it has one of its own: what cargo names, or what is
    found by the name that it has, such as `rustc`."""
    rustc = environment.get("RUSTC", "")
    if rustc and "/" not in rustc:
        own = [each for each in environment.get("PATH", "").split(":") if os.path.isabs(each)]
        rustc = shutil.which(rustc, path=":".join(own)) or ""
        sysroot = os.path.dirname(os.path.dirname(rustc))
        is_one = os.path.isdir(f"{sysroot}/lib/rustlib") and not is_shared(sysroot)
        return sysroot if is_one else ""
    return os.path.dirname(os.path.dirname(rustc))


def with_places(roots: Roots, environment: Mapping[str, str]) -> Roots:
    """The places of a build script's compile, and beside them those where its run may read."""
    cargo = cargo_home(environment)
    sysroot = _sysroot(environment)
    more = {
        f"{cargo}/registry/src": "cargo/registry/src",
        f"{cargo}/git/checkouts": "cargo/git/checkouts",
        cargo: _CARGO_HOME,
        sysroot: "toolchain",
        environment.get("HOME", ""): HOME,
        _temporary(roots, environment): _TEMPORARY,
        _wrappers_home(environment): "distbuild-home",
    }
    known = {place.real for place in roots.places if place.staged}
    places = [place for place in roots.places if place.staged]
    places += [
        Place(real=real, staged=staged, recorded=staged)
        for real, staged in more.items()
        if real.startswith("/") and len(real) > 1 and real not in known
    ]
    return replace(roots, places=tuple(sorted(places, key=lambda place: len(place.real))))
