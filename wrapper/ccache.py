"""ccache in a C compiler's place on PATH, as distributions put it there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping

_OFF = {"CCACHE_DISABLE": "1"}
"""Has it run the compiler and do nothing else: what it keeps is no input, and no output."""

_CHOOSES = ("CCACHE_PATH", "CCACHE_COMPILER", "CCACHE_PREFIX", "CCACHE_CONFIGPATH")
_SAYS = re.compile(rb"^\s*(?:path|compiler|prefix_command)\s*=\s*\S", re.MULTILINE)


def switched_off(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which it keeps nothing, where it is on PATH at all."""
    is_there = shutil.which("ccache", path=environment.get("PATH", "")) is not None
    return _OFF if is_there else {}


def behind_ccache(name: str, environment: Mapping[str, str]) -> str | None:
    """The program that ccache runs where it is found on PATH by a compiler's name: the next one of
    that name. None where it is not found so, or may be told to run another."""
    is_there = False
    for directory in environment.get("PATH", "").split(":"):
        if not os.path.isabs(directory):
            return None  # it depends on where somebody stands
        found = os.path.join(directory, name)
        if not os.access(found, os.X_OK):
            continue
        if os.path.basename(os.path.realpath(found)) != "ccache":
            return found if is_there and not _is_told(environment) else None
        is_there = True
    return None


def _is_told(environment: Mapping[str, str]) -> bool:
    if any(environment.get(name) for name in _CHOOSES):
        return True
    for path in _settings(environment):
        try:
            with open(path, "rb") as file:
                said = file.read()
        except FileNotFoundError:
            continue
        except OSError:
            return True
        if _SAYS.search(said):
            return True
    return False


def _settings(environment: Mapping[str, str]) -> Iterator[str]:
    """The files that it may read, of any version."""
    home = environment.get("HOME", "")
    yield from (f"{each}/ccache.conf" for each in ("/etc", "/usr/local/etc", f"{home}/.ccache"))
    for name, usual in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        yield f"{environment.get(name) or f'{home}/{usual}'}/ccache/ccache.conf"
    if environment.get("CCACHE_DIR"):
        yield f"{environment['CCACHE_DIR']}/ccache.conf"
