"""What a run reads, by name, and what that is here and now."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.names import Names, is_below
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import skip_in_package

_MAX_READS = 20_000
_MAX_RECORDS = 8
_TRUSTED_SECONDS = 1.0


class NotNameable(Exception):
    """Something that a run read has no value that could be compared; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What runs of one script with one set of cargo's variables were seen to depend on.

    `paths` are kinds and names (names.py); `variables`, `tokens` and `reach` say which of the
    user's variables count (environment.py).
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


def named(seen: Seen, names: Names) -> frozenset[tuple[str, str]]:
    """The names of what a run read. Raises NotNameable when it is too much."""
    found = set()
    for path, kind in seen.reads.items():
        program = names.on_path(path)
        if program is not None:
            found.add(("s", program))
            if not os.path.lexists(path):
                continue  # another user's PATH does not lead there
        if kind != "s" or not names.leads_here(path):
            found.add((kind, names.name(path)))
    if len(found) > _MAX_READS:
        raise NotNameable(f"it reads {len(found)} files")
    for _, name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise NotNameable("it reads a file whose name is not UTF-8") from None
    return frozenset(found)


class Values:
    """Values of paths; those of the system's own files are looked at once a second."""

    def __init__(self, files: FileDigests) -> None:
        self._files = files
        self._system: dict[tuple[str, str], tuple[float, str]] = {}

    def of(
        self, paths: Iterable[tuple[str, str]], names: Names, *, looks_again: bool = False
    ) -> list[str]:
        """A line for each name. Raises NotNameable and OSError.

        `looks_again`: also at what was looked at just before.
        """
        if looks_again:
            self._system.clear()
        return [f"{kind} {name} {self._of(kind, name, names)}" for kind, name in sorted(paths)]

    def _of(self, kind: str, name: str, names: Names) -> str:
        if not name.startswith("/"):
            return self._now(kind, name, names)
        now = time.monotonic()
        until, value = self._system.get((kind, name), (0.0, ""))
        if now >= until:
            value = self._now(kind, name, names)
            self._system[kind, name] = now + _TRUSTED_SECONDS, value
        return value

    def _now(self, kind: str, name: str, names: Names) -> str:
        if name.startswith("path:"):
            found = names.found_on_path(name)
            return "none" if found is None else self._digest(found, os.stat(found))
        values = [(word, self._value(kind, path, names)) for word, path in names.paths(name)]
        return " ".join(f"{word}={value}" for word, value in values if value != "none")

    def _value(self, kind: str, path: str, names: Names) -> str:
        link = ""
        try:
            st = os.lstat(path)
            if stat.S_ISLNK(st.st_mode):
                link = f"link {names.roots.stage_text(os.readlink(path))} "
                st = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return link + "none"
        except OSError as error:
            raise NotNameable(f"it reads {path}: {error.strerror}") from None
        if stat.S_ISDIR(st.st_mode):
            return link + ("directory" if kind == "s" else _listing(path, names))
        if not stat.S_ISREG(st.st_mode):
            raise NotNameable(f"it reads {path}, which is no file")
        return f"{link}{'program' if st.st_mode & 0o111 else 'file'} {self._digest(path, st)}"

    def _digest(self, path: str, st: os.stat_result) -> str:
        try:
            return self._files.digest(path, st).hash
        except PermissionError:
            return "denied"


def _listing(path: str, names: Names) -> str:
    """The names in a directory but for those that differ between checkouts of the same."""
    skip = skip_in_package(names.roots.target)
    found = sorted(name for name in os.listdir(path) if not skip(path, name))
    return hashlib.sha256("\0".join(found).encode("utf-8", "surrogateescape")).hexdigest()


def changed_since(seen: Seen, started_ns: int, target: str) -> str | None:
    """Something that was changed since a run began that read it, or None.

    What is not there now may have been there then: its directory tells. cargo itself changes the
    target directory all the time, and nothing that a run reads is removed from there.
    """
    for path, kind in seen.reads.items():
        if is_below(path, (target,)) and not os.path.isfile(path):
            continue
        try:
            states = [os.lstat(path), os.stat(path)]
        except OSError:
            states = [_nearest(path)]
        for st in states:
            if stat.S_ISDIR(st.st_mode) and kind == "s" and len(states) > 1:
                continue  # it was only asked whether it is there
            if max(st.st_mtime_ns, st.st_ctime_ns) >= started_ns:
                return path
    return None


def _nearest(path: str) -> os.stat_result:
    """The state of the nearest directory above that is there."""
    while True:
        path = os.path.dirname(path)
        try:
            return os.lstat(path)
        except OSError:
            if path == "/":
                raise


def interpreter_of(program: str) -> str | None:
    """What the kernel starts for a script, without asking for it by a system call."""
    try:
        with open(program, "rb") as file:
            first = file.read(256).partition(b"\n")[0]
    except OSError:
        return None
    words = first[2:].split() if first.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else None
