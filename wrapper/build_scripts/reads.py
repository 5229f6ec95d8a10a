"""What a run reads, by name, and what that is here and now."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.keys import LISTING, NONE, Value
from wrapper.build_scripts.machine import FACTS, fact
from wrapper.build_scripts.names import Names, above, is_below
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import when_moved

_SOURCES = "/lib/rustlib/src/rust"
_MAX_READS = 20_000
_DENIED = "denied"
_MAX_RECORDS = 8
_TRUSTED_SECONDS = 1.0
_OF_THE_SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/etc",
    "/opt",
    "/nix",
)
CLOCK_STEP_NS = 20_000_000
"""Files' times come from a clock that goes in steps, and lags behind by up to one."""

_MAX_LISTING = 4096


class NotNameable(Exception):
    """Something that a run read has no value that could be compared; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What runs of one script with one set of cargo's variables were seen to depend on.

    `paths` are kinds (accesses.py) and names (names.py), and beside them `p` and the name of what
    was looked for on PATH, `k` and that of what it tells of the machine (machine.py); `variables`,
    `tokens` and `reach` say which of the user's variables count (environment.py).
    """

    paths: frozenset[tuple[str, str]]
    variables: frozenset[str]
    tokens: str
    reach: str

    def dump(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "paths": sorted(self.paths), "variables": sorted(self.variables),
            "tokens": self.tokens, "reach": self.reach,
        }  # fmt: skip

    @classmethod
    def load(cls, values: Any) -> Record:
        """Raises KeyError, TypeError or ValueError for what `dump` has not written."""
        return cls(
            paths=frozenset((str(kind), str(name)) for kind, name in values["paths"]),
            variables=frozenset(map(str, values["variables"])),
            tokens=str(values["tokens"]),
            reach=str(values["reach"]),
        )


def dump_records(records: Iterable[Record]) -> bytes:
    """Records as a blob. Each is right by itself: a run that finds all that one names as it was
    when a result was made will make that result."""
    unique = list(dict.fromkeys(records))[:_MAX_RECORDS]
    return json.dumps([each.dump() for each in unique], separators=(",", ":")).encode()


def load_records(data: bytes) -> list[Record]:
    """Raises NotNameable for what `dump_records` has not written."""
    try:
        return [Record.load(values) for values in json.loads(data)]
    except (KeyError, TypeError, ValueError) as error:
        raise NotNameable(f"the cache's record of it is none: {error}") from None


def _looked_at_by_rustc(seen: Seen) -> set[str]:
    """Where each rustc that was run looks whether it has the sources of std, for its messages: who
    develops has them, and CI has not."""
    programs = (path for path in seen.programs if path.endswith("/bin/rustc"))
    found: set[str] = set()
    for sources in (path.removesuffix("/bin/rustc") + _SOURCES for path in programs):
        both = {sources, f"{sources}/library/std/src/lib.rs"}
        if all(seen.reads.get(path) == "s" for path in both):
            found |= both
    return found


def named(seen: Seen, names: Names) -> frozenset[tuple[str, str]]:
    """The names of what a run read. Raises NotNameable when it is too much."""
    of_rustc = _looked_at_by_rustc(seen)
    found = {
        ("k", path) if path in FACTS else (kind, name)
        for path, kind in seen.reads.items()
        if (kind != "s" or not names.leads_here(path)) and path not in of_rustc
        for name in names.meant(path, seen.upwards.get(path, ()), seen.reads)
    }
    # whether it is a link decides where the way goes
    named_upwards = chain.from_iterable(seen.upwards.values())
    ways = {way for path in named_upwards for way in names.roots.left_upwards(path)}
    found |= {("s", names.name(way)) for way in ways if not names.leads_here(way)}
    found |= {("p", os.path.basename(path)) for path in seen.reads if names.is_searched(path)}
    if len(found) > _MAX_READS:
        raise NotNameable(f"it reads {len(found)} files")
    for _, name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise NotNameable("it reads a file whose name is not UTF-8") from None
    return frozenset(found)


class Values:
    """Values of paths; those of the system's own files are looked at once a second and build."""

    def __init__(self, files: FileDigests, builds: BuildStarts) -> None:
        self._files = files
        self._builds = builds
        self._system: dict[tuple[str, str], tuple[float, Value]] = {}

    def of(self, paths: Iterable[tuple[str, str]], names: Names) -> list[tuple[str, str, Value]]:
        """The names with what they stand for, in order. Raises NotNameable and OSError."""
        return [(kind, name, self._of(kind, name, names)) for kind, name in sorted(paths)]

    def forget(self) -> None:
        """Look at all of them next time."""
        self._system.clear()

    def _of(self, kind: str, name: str, names: Names) -> Value:
        if kind == "k":
            known = fact(name)
            return () if known is None else (("", known),)
        if kind == "p":
            found = names.on_path(name)
            return tuple(
                (word, f"{names.name(p)} {self._value('x', p, names)}") for word, p in found
            )
        if not is_below(name, _OF_THE_SYSTEM):
            return self._now(kind, name, names)
        now = time.monotonic()
        looked_at, value = self._system.get((kind, name), (float("-inf"), ()))
        if not self._builds.is_recent(looked_at, _TRUSTED_SECONDS):
            value = self._now(kind, name, names)
            self._system[kind, name] = now, value
        return value

    def _now(self, kind: str, name: str, names: Names) -> Value:
        values = [(word, self._value(kind, path, names)) for word, path in names.paths(name)]
        return tuple((word, value) for word, value in values if value != NONE)

    def _value(self, kind: str, path: str, names: Names) -> str:
        link = ""
        try:
            st = os.lstat(path)
            if stat.S_ISLNK(st.st_mode):
                link = f"link {names.roots.stage_text(os.readlink(path))} "
                st = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return link + NONE
        except PermissionError:
            return link + _DENIED
        except OSError as error:
            raise NotNameable(f"it reads {path}: {error.strerror}") from None
        if stat.S_ISDIR(st.st_mode):
            return link + ("directory" if kind == "s" else _listing(path, names))
        if not stat.S_ISREG(st.st_mode):
            if kind == "s" or os.path.realpath(path) == os.devnull:
                return f"{link}no file"
            raise NotNameable(f"it reads {path}, which is no file")
        return f"{link}{'program' if st.st_mode & 0o111 else 'file'} {self._digest(path, st)}"

    def _digest(self, path: str, st: os.stat_result) -> str:
        try:
            return self._files.digest(path, st).hash
        except PermissionError:
            return f"{_DENIED}, {st.st_size} bytes"


def _listing(path: str, names: Names) -> str:
    """The names in a directory but for those that differ between checkouts of the same.

    They say what is new or gone; of large directories there is a hash.
    """
    target = names.roots.target
    try:
        with os.scandir(path) as entries:
            found = sorted(
                f"{_mark(each)}{each.name}" for each in entries if not _is_of_checkout(each, target)
            )
    except PermissionError:
        return f"{LISTING}{_DENIED}"
    text = "/".join(found)
    if len(text) <= _MAX_LISTING:
        return f"{LISTING}{text}"
    return f"many {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


def _is_of_checkout(entry: os.DirEntry[str], target: str) -> bool:
    return (
        entry.name == ".git"
        or entry.path == target
        or (entry.name == "target" and os.path.exists(f"{entry.path}/CACHEDIR.TAG"))
    )


def _mark(entry: os.DirEntry[str]) -> str:
    """What kind of thing it is, which a program sees with the name."""
    if entry.is_symlink():
        return "@"
    return ">" if entry.is_dir() else "-"


def changed_since(
    seen: Seen,
    started_ns: int,
    targets: Sequence[str],
    busy: Container[str] = (),
    places: Sequence[str] = (),
) -> str | None:
    """A path that may have been changed since the run began, or None.

    Where nothing is something may have been: then its directory has changed. Not in `targets`, the
    target directory by its names, where other units come and go, nor in `busy` ones, where others'
    files do. Below `places` it may also have been a way that led elsewhere.
    """
    started_ns -= CLOCK_STEP_NS
    moved = _moved_since(seen.reads, started_ns, targets, places)
    if moved is not None:
        return moved
    for path, kind in seen.reads.items():
        if path in FACTS:
            continue
        try:
            states = [os.lstat(path), os.stat(path)]
        except OSError:
            if path in seen.there and not os.path.lexists(path):
                return path
            if is_below(path, targets):
                continue
            path = _nearest(path)
            if path in busy:
                continue
            states, kind = [os.stat(path)], "o"
        for st in states:
            is_content = not stat.S_ISDIR(st.st_mode) or kind != "s"
            if is_content and max(st.st_mtime_ns, st.st_ctime_ns) >= started_ns:
                return path
    return None


def _moved_since(
    paths: Iterable[str], started_ns: int, targets: Sequence[str], places: Sequence[str]
) -> str | None:
    """A directory or link on the way to some paths that got its name since, or None."""
    ways = {way for path in paths if is_below(path, places) for way in above(path)}
    for way in sorted(ways):
        if is_below(way, places) and not is_below(way, targets):
            with suppress(OSError):
                if when_moved(os.lstat(way)) >= started_ns:
                    return way
    return None


def _nearest(path: str) -> str:
    """The directory in which a way to what is not there ends."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
