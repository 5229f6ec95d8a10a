"""What a compile asked the C library for, as wrapper/shim/asked.c told its watcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from wrapper.build_scripts.environment import is_neutral
from wrapper.inputs.environment import environment_of_action, is_in_every_key

_NOTED = re.compile(rb"(?<![^\0])v([^\0]+)")


def is_told(accesses: bytes) -> bool:
    """Whether the watcher was told of variables at all."""
    return accesses.startswith(b"v\0") or b"\0v\0" in accesses


def names_asked(accesses: bytes) -> frozenset[str]:
    """The variables for which macros asked, set or not, and what is none and begins with `=`."""
    return frozenset(name.decode(errors="surrogateescape") for name in _NOTED.findall(accesses))


def asked_for(accesses: bytes, environment: Mapping[str, str]) -> frozenset[str]:
    """The variables for which macros asked, set or not, but for those that every key has.

    `environment` is the unit's.
    """
    carried = environment_of_action(environment).keys()
    return frozenset(
        name
        for name in names_asked(accesses) - carried
        if not (name.startswith("=") or is_in_every_key(name) or is_neutral(name))
    )


def other_than_variables(asked: Iterable[str]) -> str | None:
    """What macros asked for that is another each time, if they did, in words."""
    return next((name[1:] for name in sorted(asked) if name.startswith("=")), None)
