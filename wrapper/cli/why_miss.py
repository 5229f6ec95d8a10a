"""`cargo distbuild why-miss CRATE`: what in a unit's key changed since the time before."""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence

from wrapper.home import Home
from wrapper.keys.change import Change
from wrapper.keys.explain import Cause, Comparison, Entry, Explainer
from wrapper.layout import profile_of
from wrapper.stats import HITS, SCRIPT_RUN
from wrapper.wording import duration

MAX_NAMED = 8
"""Changed files that are named before the rest is counted."""

_MAX_VALUE = 120
_KINDS = {
    "option": "option", "environment": "environment", "source": "source file",
    "toolchain": "toolchain", "link-set": "linker and C library", "build-output":
    "build-script output", "platform": "platform", "path": "path of this checkout",
    "beside": "beside the inputs,",
    "cargo-hash": "cargo's own hash", "script": "the build script", "file": "file",
    "listing": "names in",
    "program": "program on PATH", "also-read": "it looked at other things, among them",
}  # fmt: skip
_BY_DIGEST = (
    "source",
    "toolchain",
    "build-output",
    "link-set",
    "file",
    "listing",
    "program",
    "also-read",
)
_NAMELESS = ("link-set", "script")


def why_miss(home: Home, arguments: Sequence[str]) -> int:
    """Print one answer for each unit that the crate had in its last build; 1 for none."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: cargo distbuild why-miss CRATE", file=sys.stderr)
        return 2
    if not home.keys.exists():
        print("error: distbuild: no build has been recorded yet", file=sys.stderr)
        return 1
    try:
        answers = _answers(home, arguments[0])
    except sqlite3.Error as error:
        remedy = "builds begin it anew where it is damaged"
        print(f"error: distbuild: {home.keys} cannot be read: {error}; {remedy}", file=sys.stderr)
        return 1
    if not answers:
        print(f"{arguments[0]}: never seen in {home.path}", file=sys.stderr)
        return 1
    print("\n\n".join(answers))
    return 0


def _answers(home: Home, crate: str) -> list[str]:
    """Raises sqlite3.Error."""
    explainer = Explainer(home.keys)
    try:
        now = time.time()
        entries = explainer.units(crate)
        return ["\n".join(answer(explainer.compare(entry), now)) for entry in entries]
    finally:
        explainer.close()


def answer(found: Comparison, now: float) -> Iterator[str]:
    """The lines that explain one unit."""
    entry, before = found.entry, found.before
    unit = f"{entry.package} ({entry.kind})"
    ago = f"{duration(max(0.0, now - entry.last))} ago"
    if entry.outcome in HITS:
        where = "local" if entry.outcome == "hit-local" else "from the server"
        yield f"{unit}: was a hit ({where}) {ago}"
        return
    reason = f" ({entry.reason})" if entry.reason else ""
    yield f"{unit}: {_done(entry)} {ago}{reason}"
    if entry.action is None:
        yield "  it got no key to look up"
    elif before is None:
        yield "  never seen before on this machine, in this form; no result was found under its key"
    elif found.causes is None:
        yield "  what its key was made of the time before is no longer known"
    elif not found.causes:
        why = "whose result holds the paths there" if found.is_of_path else "which left no result"
        if before.outcome in HITS:
            why = "when it was a hit"
        yield f"  its key is the same as {_when(found, now)}, {why}"
        if before.reason:
            yield f"  {_done(before)} then too: {before.reason}"
    else:
        yield f"  changed in its key since {_when(found, now)}:"
        yield from _lines(found.causes, "    ")
    if entry.action is not None:
        yield f"  key: {entry.action}"


def _done(entry: Entry) -> str:
    if entry.kind == SCRIPT_RUN:
        return "ran here"
    where = f"on {entry.worker or 'a worker'}" if entry.outcome == "remote" else "here"
    return f"compiled {where}"


def _when(found: Comparison, now: float) -> str:
    assert found.before is not None
    ago = f"{duration(max(0.0, now - found.before.last))} ago"
    return f"{ago} in {profile_of(found.before.directory)}" if found.is_elsewhere else ago


def _lines(causes: Sequence[Cause], indent: str) -> Iterator[str]:
    counts: dict[str, int] = {}
    for cause in causes:
        kind = cause.change.kind
        counts[kind] = counts.get(kind, 0) + 1
        if kind in _BY_DIGEST and counts[kind] > MAX_NAMED:
            continue
        yield from _cause(cause, indent)
    for kind, count in counts.items():
        if kind in _BY_DIGEST and count > MAX_NAMED:
            yield f"{indent}{_KINDS[kind]}: {count - MAX_NAMED} more"


def _cause(cause: Cause, indent: str) -> Iterator[str]:
    change, below = cause.change, cause.below
    if change.kind != "dependency":
        yield indent + _component(change)
        if below is not None:
            yield from _below(below, indent + "  ")
        return
    how = "changed"
    if change.old is None or change.new is None:
        how = "added" if change.old is None else "removed"
    elif change.old != change.new:
        how = f"is another unit ({change.old} → {change.new})"
    if below is None:
        yield f"{indent}dependency {change.name} {how}" + (", see above" if cause.is_told else "")
        return
    yield f"{indent}dependency {change.name} {how}"
    yield from _below(below, indent + "  ")


def _below(below: Comparison, indent: str) -> Iterator[str]:
    if below.before is None:
        yield f"{indent}never seen before"
    elif below.causes is None or below.entry.action is None:
        yield f"{indent}{_done(below.entry)}, without a key to compare"
    elif not below.causes:
        yield f"{indent}its key is the same and its output is not: {_done(below.entry)}"
    else:
        yield from _lines(below.causes, indent)


def _component(change: Change) -> str:
    kind = _KINDS[change.kind]
    if change.kind == "also-read":
        return f"{kind} {_short(change.name)}"
    name = "" if change.kind in _NAMELESS else f" {_short(change.name)}"
    if change.kind in (*_BY_DIGEST, "script"):
        how = "added" if change.old is None else "removed" if change.new is None else "changed"
        old, new = _what(change.old), _what(change.new)
        if change.kind in ("file", "program") and old and new and old != new:
            return f"{kind}{name}: {_short(old)} → {_short(new)}"
        return f"{kind}{name} {how}"
    if change.old is None:
        return f"{kind} {change.name} added: {_short(change.new)}"
    if change.new is None:
        return f"{kind} {change.name} removed: {_short(change.old)}"
    return f"{kind} {change.name}: {_short(change.old)} → {_short(change.new)}"


def _what(value: str | None) -> str:
    """What was there, without its digest."""
    return re.sub(r" ?[0-9a-f]{64}$", "", value or "")


def _short(value: str | None) -> str:
    text = ascii(value)[1:-1] if value and not value.isprintable() else value or '""'
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
