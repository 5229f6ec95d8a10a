"""What differs between two keys, named as the user knows it. Reads messages; decides nothing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from remote_apis import link_set
from wrapper.build_scripts.keys import DEPENDS_ON, PROGRAM
from wrapper.keys.change import Change, place_name
from wrapper.keys.components import Components, Gone, Messages
from wrapper.keys.runs import run_changes, shown
from wrapper.layout import name_of_run
from wrapper.roots import ROOT_DIRECTORY

_DEPENDENCY = re.compile(
    r"(?:.*/)?(?:deps|build/[^/]+/([0-9a-f]{16})/out)/(?:lib)?([^/]+?(-\1)?)"
    r"\.(?:rmeta|rlib|so|a|dylib)"
)
_OUT_DIR = re.compile(r"((?:^|.*/)build/[^/]+(?:/[0-9a-f]{16})?/out)(?:/|$)(.*)")
_CARGO_HASHES = ("-C metadata", "-C extra-filename")


def changes(old: Components, new: Components, messages: Messages) -> list[Change]:
    """Every component that differs, the telling ones first."""
    found = [*_options(old.options, new.options)]
    found += _mappings("environment", old.environment, new.environment)
    if old.paths and new.paths:
        found += (_of_place(change) for change in _mappings("path", old.paths, new.paths))
    for name in sorted(old.platform.keys() | new.platform.keys()):
        kind = "link-set" if name == link_set.PROPERTY else "platform"
        found += _changed(kind, name, old.platform.get(name), new.platform.get(name))
    found += _files(old, new, messages)
    found += _upwards(old.upwards, new.upwards)
    if old.depends_on is not None and new.depends_on is not None:
        found += run_changes(old.depends_on, new.depends_on)
    return [change for change in found if not _is_consequence(change)] or found


def _of_place(change: Change) -> Change:
    """What is no path is something else of the machine, or of the place (qualifiers.py)."""
    is_path = (change.old or change.new or "").startswith("/")
    return change if is_path else replace(change, kind="beside")


def _is_consequence(change: Change) -> bool:
    """Whether it says nothing that other components do not say, if there are any.

    cargo makes its hash of features, profile, compiler and dependencies, and names OUT_DIR by it;
    the directory of the dependencies' outputs is named after the profile. A script looks farther
    where it found another thing.
    """
    if change.kind == "option" and change.name == "-L":
        return all(
            (value or "dependency=").startswith("dependency=") for value in (change.old, change.new)
        )
    is_out_dir = (change.kind, change.name) == ("environment", "OUT_DIR")
    return is_out_dir or change.kind in ("cargo-hash", "also-read")


def _changed(kind: str, name: str, old: str | None, new: str | None) -> list[Change]:
    return [] if old == new else [Change(kind=kind, name=name, old=old, new=new)]


def _mappings(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        yield from _changed(kind, name, old.get(name), new.get(name))


def _options(old: Sequence[tuple[str, str]], new: Sequence[tuple[str, str]]) -> Iterator[Change]:
    for name in dict.fromkeys(name for name, _ in (*old, *new)):
        before = [value for option, value in old if option == name]
        after = [value for option, value in new if option == name]
        if name in _CARGO_HASHES:
            yield from _changed("cargo-hash", name, _joined(before), _joined(after))
        elif _is_extern(name) or name == "--remap-path-prefix":
            continue  # the files say it: a dependency that changed, another place
        elif len(before) <= 1 and len(after) <= 1:
            yield from _changed("option", name or "source", _joined(before), _joined(after))
        elif sorted(before) == sorted(after):
            yield from _changed("option", f"order of {name}", _joined(before), _joined(after))
        else:
            for value in (v for v in before if v not in after):
                yield Change(kind="option", name=name, old=value, new=None)
            for value in (v for v in after if v not in before):
                yield Change(kind="option", name=name, old=None, new=value)


def _is_extern(name: str) -> bool:
    return name.startswith("--extern ")


def _joined(values: Sequence[str]) -> str | None:
    return " ".join(values) if values else None


def _files(old: Components, new: Components, messages: Messages) -> Iterator[Change]:
    options = (*old.options, *new.options)
    named = {os.path.dirname(value) for name, value in options if _is_extern(name)}
    dependencies: dict[str, tuple[set[str], set[str]]] = {}
    toolchain = []
    for path, before, after in _differences(old.root, new.root, "", messages):
        place = path.removeprefix(f"{ROOT_DIRECTORY}/")
        dependency = _DEPENDENCY.fullmatch(place)
        # where there is no hash in its name a script may have made it
        if (
            dependency
            and dependency[1]
            and not dependency[3]
            and os.path.dirname(place) not in named
        ):
            dependency = None
        if place in ("run.sh", DEPENDS_ON):
            continue
        if path == PROGRAM:
            yield Change(kind="script", name=place, old=before, new=after)
            continue
        if place.startswith("toolchain/"):
            toolchain.append(Change(kind="toolchain", name=place, old=before, new=after))
        elif dependency is not None:
            name = dependency.group(2)
            stems = dependencies.setdefault(name.rpartition("-")[0] or name, (set(), set()))
            for stem, digest in zip(stems, (before, after), strict=True):
                if digest is not None:
                    stem.add(name)
        else:
            yield _file(place, before, after)
    yield from toolchain
    for name, (was, now) in sorted(dependencies.items()):
        yield Change(
            kind="dependency", name=name, old=max(was, default=None), new=max(now, default=None)
        )


def _upwards(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            yield Change(kind="also-read", name=shown(name), old=was, new=now)
        else:  # what is there, and where, no user would want to see
            yield from _changed("file", shown(name), _word(was), _word(now))


def _word(state: str) -> str | None:
    return hashlib.sha256(state.encode()).hexdigest() if state else None


def _file(place: str, before: str | None, after: str | None) -> Change:
    out_dir = _OUT_DIR.fullmatch(place)
    if out_dir is not None:
        name = f"{name_of_run(out_dir.group(1))}/out/{out_dir.group(2)}".rstrip("/")
        return Change(kind="build-output", name=name, old=before, new=after)
    return Change(kind="source", name=place_name(place), old=before, new=after)


def _differences(
    old: str | None, new: str | None, path: str, messages: Messages
) -> Iterator[tuple[str, str | None, str | None]]:
    """Path, old and new digest of each file that differs below two directories.

    A directory that the journal has lost counts as one file.
    """
    try:
        before = messages.entries(old) if old else {}
        after = messages.entries(new) if new else {}
    except Gone:
        yield path.rstrip("/"), old, new
        return
    for name in sorted(before.keys() | after.keys(), key=os.fsencode):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if name.endswith("/"):
            yield from _differences(was, now, path + name, messages)
        else:
            yield path + name, was, now
