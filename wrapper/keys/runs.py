"""What differs between what two runs of a build script depended on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from wrapper.build_scripts.keys import LISTING, DependsOn, Value
from wrapper.build_scripts.names import ABOVE
from wrapper.inputs.upwards import CONFIGURATION
from wrapper.keys.change import Change, place_name

_ON_PATH = "PATH:"
_DIRECTORY = re.compile(rf"(link .*? )?(?P<how>directory|{LISTING}|many )")
_MARKS = {"-": "file", "@": "link", ">": "directory"}


def run_changes(old: DependsOn, new: DependsOn) -> list[Change]:
    """Changes of the kinds environment, file, listing, program and also-read.

    `old` and `new` of what was read say what was there.
    """
    return [*_variables(old, new), *_reads(_by_name(old), _by_name(new))]


def _variables(old: DependsOn, new: DependsOn) -> Iterator[Change]:
    """One that counts in one of both alone need not have changed."""
    counting = set(old.declared) ^ set(new.declared)
    for name in sorted(old.variables.keys() | new.variables.keys()):
        was, now = old.variables.get(name), new.variables.get(name)
        if was == now:
            continue
        is_in_both = None not in (was, now) or (old.reach == new.reach and name not in counting)
        kind = "environment" if is_in_both else "also-read"
        yield Change(kind=kind, name=name, old=was, new=now)


def _by_name(run: DependsOn) -> dict[str, Value]:
    return {_ON_PATH + name if kind == "p" else name: value for kind, name, value in run.reads}


def _reads(old: Mapping[str, Value], new: Mapping[str, Value]) -> list[Change]:
    found: dict[str, Change] = {}
    for name in sorted(old.keys() & new.keys()):
        for change in _changes(name, *_differing(old[name], new[name])):
            # what is new in a directory may have been looked for by itself too
            found[change.name] = change
    also = (
        Change(kind="also-read", name=shown(name), old=was, new=now)
        for name in sorted(old.keys() ^ new.keys())
        for was, now in [_differing(old.get(name, ()), new.get(name, ()))]
    )
    return [*found.values(), *also]


def _changes(name: str, was: str | None, now: str | None) -> Iterator[Change]:
    before, after = _DIRECTORY.match(was or ""), _DIRECTORY.match(now or "")
    if was == now:
        return
    if before is None or after is None:
        kind = "program" if name.startswith(_ON_PATH) else "file"
        yield Change(kind=kind, name=shown(name), old=was, new=now)
    elif before["how"] == after["how"] == LISTING:
        yield from _entries(name, _names_in(before), _names_in(after))
    elif "directory" not in (before["how"], after["how"]):  # else one of both did not list it
        yield Change(kind="listing", name=shown(name), old=was, new=now)


def _differing(old: Value, new: Value) -> tuple[str | None, str | None]:
    """What is at the first of a name's paths where something else is."""
    before, after = dict(old), dict(new)
    for word in (*before, *after):
        if before.get(word) != after.get(word):
            return before.get(word), after.get(word)
    return None, None


def _names_in(listing: re.Match[str]) -> dict[str, str]:
    """The names in a directory that was listed, with what each is."""
    names = listing.string[listing.end() :].split("/")
    return {each[1:]: _MARKS.get(each[:1], "file") for each in names if each}


def _entries(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for entry in sorted(before.keys() | after.keys()):
        was, now = before.get(entry), after.get(entry)
        if was != now:
            yield Change(kind="file", name=shown(f"{name}/{entry}"), old=was, new=now)


def shown(name: str) -> str:
    """A name of a path as the user knows it."""
    if name == CONFIGURATION:
        return "of cargo's configuration"
    if name.startswith(ABOVE):
        return f"{name.removeprefix(ABOVE)} above the workspace"
    return place_name(name.removeprefix(_ON_PATH))
