"""One difference between two keys."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOP = re.compile(r"(?:workspace|package/[^/]+|cargo/(?:registry/src|git/checkouts)/[^/]+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One component that differs.

    `kind` is option, environment, source, dependency, toolchain, link-set, build-output, platform,
    path, or cargo-hash; of a build script's run also script, file, listing (a directory's names),
    program (on PATH), or also-read, what only one of both has looked at. `old` is None where the
    component is new, `new` where it is gone; both are digests for files, and for what a run read
    say what it was. A dependency's `name` is its crate's, its `old` and `new` the base name of its
    outputs (`serde-0a1b`), equal when only what is in them changed.
    """

    kind: str
    name: str
    old: str | None
    new: str | None


def place_name(place: str) -> str:
    """A staged path as the user knows it."""
    return _TOP.sub("", place, count=1)
