"""What a watched run read and ran, from the accesses that wrapper/shim/watch.c noted. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from wrapper.build_scripts.names import is_below

_NEUTRAL = re.compile(
    r"/dev/(null|zero|full|u?random|tty|stdin|stdout|stderr|fd/\d+)"
    r"|/proc/(self|thread-self)"
    r"|/proc/(self|thread-self|\d+)/(exe|maps|mountinfo|cgroup|stat|statm|status|auxv|limits|comm"
    r"|cmdline|oom_score_adj|fd|fd/\d+(/daemon\.sock)?|task(/\d+(/\w+)?)?)"
    r"|/proc/(meminfo|loadavg|stat|uptime|filesystems|mounts|sys/(vm|kernel)/[\w/]+)"
    r"|/sys/fs/cgroup(/.*)?|/sys/devices/system/cpu(/.*)?|/sys/kernel/mm(/.*)?"
    r"|/etc/ld\.so\.cache|/etc/localtime|/"
)
"""What tells about the machine's load and limits, or where libraries are, which are seen anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run may do as it likes: `own` are paths below which it may write; `unseen` those that
    do not count; `temporary` where names are made up."""

    own: str
    unseen: tuple[str, ...]
    temporary: str


@dataclass(slots=True, kw_only=True)
class Seen:
    """`reads` maps paths to `o` when they were opened and to `s` when it was only asked whether
    they are there; `programs` are the paths of what was run; `trouble` says, if anything does, why
    the run must not be kept."""

    reads: dict[str, str] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)
    trouble: str | None = None


def decode(data: bytes) -> list[tuple[str, str]]:
    """Kinds and paths, in the order in which they came up."""
    texts = (text.decode("utf-8", "surrogateescape") for text in data.split(b"\0") if text)
    return [(text[0], text[1:]) for text in texts]


def sort_out(accesses: Iterable[tuple[str, str]], around: Surroundings) -> Seen:
    """What of the accesses the run's result depends on."""
    seen = Seen()
    made: set[str] = set()
    for kind, named in accesses:
        if kind == "!":
            seen.trouble = seen.trouble or named
            continue
        path = _normal(named)
        if is_below(path, (around.own, *around.unseen)) or _NEUTRAL.fullmatch(path):
            continue
        if path == around.temporary or any(part in made for part in _self_and_above(path)):
            continue
        if kind == "c" and is_below(path, (around.temporary,)):
            made.add(path)
        elif kind in "cm":
            seen.trouble = seen.trouble or f"it writes {path}"
        elif is_below(path, ("/proc", "/sys", "/dev")):
            seen.trouble = seen.trouble or f"it reads {path}"
        else:
            _note_read(seen, kind, path)
    return seen


def _note_read(seen: Seen, kind: str, path: str) -> None:
    if kind == "x":
        seen.programs.add(path)
    if kind != "s" or path not in seen.reads:
        seen.reads[path] = "s" if kind == "s" else "o"


def _self_and_above(path: str) -> Iterable[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)


def _normal(path: str) -> str:
    if "/.." in path:  # what a link leads to may have another parent
        directory, name = os.path.split(path)
        if name in ("..", "."):
            return os.path.realpath(path)
        return os.path.join(os.path.realpath(directory), name)
    return os.path.normpath(path) if "//" in path or "/." in path or path.endswith("/") else path
