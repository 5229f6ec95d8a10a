"""What tells machines apart that do the same work: where a run reads it, or it stands in what the
run makes, the run's key has it. Known by the names of the kernel's files that say the same."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator

from wrapper.searching import any_contains, mapped

LONG = 8
"""A value of so many characters is not in an output by chance."""

_HOST = "/proc/sys/kernel/hostname"
_KERNEL = "/proc/sys/kernel/osrelease"
_VERSION = "/proc/version"
_PROCESSOR = "/proc/cpuinfo"
FACTS = frozenset({_HOST, _KERNEL, _VERSION, _PROCESSOR})

_LOGS = re.compile(r".*/(?:config\.(?:log|status)|libtool|CMakeCache\.txt|CMakeFiles/.*)")
_MAKE_LOGS = ("sh", "dash", "bash", "cmake")
"""What runs where configure, or cmake, does."""

_TELL_HOST = ("hostname", "hostnamectl")


def fact(name: str) -> str | None:
    """What it is here; None for a name that says nothing of machines."""
    if name == _PROCESSOR:
        return processor()
    system = os.uname()
    said = {_HOST: socket.gethostname(), _KERNEL: system.release}
    return {**said, _VERSION: f"{system.release} {system.version}"}.get(name)


@functools.cache
def processor() -> str:
    """What of this machine's processor compilers go by: not its clock, which is never the same."""
    with open(_PROCESSOR) as file:
        block = file.read().partition("\n\n")[0]
    kept = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
    lines = [line for line in block.splitlines() if line.partition(":")[0].strip() in kept]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def facts_told(
    made: Iterable[str], said: Iterable[bytes], script: str, programs: Collection[str]
) -> Iterator[str]:
    """The names of what stands in files that a run has made, or in what it said; of a machine with
    a name so short that it may stand in anything, also where the script or a program asks for it.
    The logs of configure and cmake, which say it always, are for reading.

    Raises OSError.
    """
    files = [path for path in made if os.path.isfile(path) and not os.path.islink(path)]
    if any(os.path.basename(each) in _MAKE_LOGS for each in programs):
        files = [path for path in files if not _LOGS.fullmatch(path)]
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
