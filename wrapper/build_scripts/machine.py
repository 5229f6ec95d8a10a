"""What tells machines apart that do the same work: where it stands in what a run makes, the run's
key has it. Known by the names of the kernel's files that have the same content."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator

from wrapper.local_tier import any_contains, mapped

LONG = 8
"""A value of so many characters is not in an output by chance."""

_HOST = "/proc/sys/kernel/hostname"
_KERNEL = "/proc/sys/kernel/osrelease"
_TELL_HOST = ("hostname", "hostnamectl")


def fact(name: str) -> str | None:
    """What it is here; None for a name that says nothing of machines."""
    return {_HOST: socket.gethostname(), _KERNEL: os.uname().release}.get(name)


def facts_told(
    made: Iterable[str], said: Iterable[bytes], script: str, programs: Iterable[str]
) -> Iterator[str]:
    """The names of what stands in files that a run has made, or in what it said; of a machine with
    a name so short that it may stand in anything, also where the script or a program asks for it.

    Raises OSError.
    """
    files = [path for path in made if os.path.isfile(path) and not os.path.islink(path)]
    facts = {name: os.fsencode(fact(name) or "") for name in (_HOST, _KERNEL)}
    facts = {name: value for name, value in facts.items() if len(value) >= LONG}
    is_in_any = any_contains(files, list(facts.values()))
    for name, value in facts.items():
        if any(value in text for text in said) or (is_in_any and any_contains(files, [value])):
            yield name
    if _HOST not in facts and _asks_for_host(script, programs):
        yield _HOST


def _asks_for_host(script: str, programs: Iterable[str]) -> bool:
    if any(os.path.basename(path) in _TELL_HOST for path in programs):
        return True
    with mapped(script) as program:
        return program.find(b"gethostname") >= 0
