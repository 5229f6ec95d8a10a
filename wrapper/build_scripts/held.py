"""What a run made that must not be given to others: what holds the date, files' times, or values
that no key names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import chain

from wrapper.build_scripts.environment import cargos_variables
from wrapper.build_scripts.machine import LONG
from wrapper.build_scripts.outputs import times
from wrapper.build_scripts.run import Run, Watched
from wrapper.build_scripts.texts import text_of
from wrapper.inputs.snapshot import Source
from wrapper.searching import any_contains

_SECONDS = re.compile(rb"(?<!\d)(1\d{9})(?:\d{3}){0,3}(?!\d)")
_OF_NO_INTEREST = {
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "MAKEFLAGS",
    "CARGO_MAKEFLAGS",
    "OLDPWD",
}
"""Variables whose values stand in many a file by chance, or say how many jobs there were."""

_SAYS_WHEN_MADE = re.compile(r".*/registry/src/[^/]+/(?:openssl-sys|libmimalloc-sys)-\d[^/]*")
"""Packages whose C library has the date in words on when it was compiled, which stay true."""


def held_by(watched: Watched, counted: Mapping[str, str], blobs: Collection[Source]) -> str | None:
    """What blobs of a run's hold of that, if anything; `counted` are the variables in its key.

    Raises OSError.
    """
    # without paths where that can be: a checkout's may have a date in it
    texts = [source for source in blobs if isinstance(source, bytes)]
    made = [source for source in blobs if isinstance(source, str)]
    needles: dict[bytes, str] = {}
    if not _SAYS_WHEN_MADE.fullmatch(watched.run.roots.package):
        is_asked = any(os.path.basename(path) == "date" for path in watched.seen.programs)
        needles = dict.fromkeys(times(watched.started, is_asked=is_asked), "a date")
    needles |= _unnamed_values(watched.run, counted)
    held = next((what for each, what in needles.items() if any(each in t for t in texts)), None)
    if held is None and any_contains(made, list(needles)):
        held = next(what for each, what in needles.items() if any_contains(made, [each]))
    if held is None and _tells_ages(watched, texts, made):
        held = "the time of a file"
    return held


def _tells_ages(watched: Watched, said: Iterable[bytes], made: Iterable[str]) -> bool:
    """Whether what it said or generated has the time of a file that it looked at, in seconds or
    smaller parts of them."""
    ages = set()
    for path in watched.seen.reads:
        with suppress(OSError):
            ages.add(str(int(os.stat(path).st_mtime)).encode())
    texts = chain(said, map(text_of, made))
    return any(found in ages for text in texts for found in _SECONDS.findall(text))


def _unnamed_values(run: Run, counted: Mapping[str, str]) -> dict[bytes, str]:
    """Values that no key names, and that what a run makes must therefore not hold, and what they
    are.

    Paths of the run's places, and of what lies above, are looked for otherwise.
    """
    cargos = cargos_variables(run.environment)
    known = cargos.keys() | counted.keys() | _OF_NO_INTEREST
    values = {v: f"the value of {name}" for name, v in run.environment.items() if name not in known}
    return {
        os.fsencode(value): what
        for value, what in values.items()
        if len(value) >= LONG
        and run.roots.staged(value) is None
        and not any(p.real.startswith(value) for p in run.roots.places)
        and not any(value in each for each in cargos.values())  # a toolchain's name, in RUSTC
    }
