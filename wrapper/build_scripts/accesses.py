"""What a watched run read and ran, from the accesses that wrapper/shim/watch.c noted. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from wrapper.build_scripts.links import ways_to
from wrapper.build_scripts.machine import FACTS
from wrapper.build_scripts.names import above, is_below
from wrapper.inputs.snapshot import RealPlaces

_NEUTRAL = re.compile(
    r"/dev/(null|zero|full|u?random|tty|stdin|stdout|stderr|fd/\d+)"
    r"|/proc/(self|thread-self)"
    r"|/proc/(self|thread-self)/(exe|comm|cmdline)"
    r"|/proc/(self|thread-self|\d+)/(maps|mountinfo|cgroup|stat|statm|status|auxv|limits"
    r"|oom_score_adj|fd|fd/\d+(/daemon\.sock)?|task(/\d+(/\w+)?)?)"
    r"|/proc/(meminfo|loadavg|stat|uptime|filesystems|mounts)"
    r"|/proc/sys/(vm/\w+|kernel/(ngroups_max|pid_max|threads-max|cap_last_cap|random/\w+))"
    r"|/sys/fs/selinux|/sys/fs/cgroup(/.*)?|/sys/devices/system/(cpu|node)(/.*)?|/sys/kernel/mm(/.*)?"
    r"|/etc/ld\.so\.cache|/var/cache/ldconfig(/aux-cache~?)?"
)
"""What tells about the machine's load and limits, or where libraries are, which are seen anyway;
what `ldconfig` remembers of files, of which it asks whether they are the same still; and whether
files have labels, for which `sed`, `cp`, `ls` and others look."""


_OF_RUSTC = re.compile(r"(?:rmeta|rustc)[A-Za-z0-9]{6}")
"""Directories that rustc makes, and removes, beside what it writes: a probe of a compiler that
writes to its standard output has them in the package."""

_UPWARDS = re.compile(r".*/\.\.(?![^/])")
"""A path as far as it goes up; links after that are ways on which something may change."""

_FEW = 8
_SPECIAL = ("/proc", "/sys", "/dev")

OTHER_RIGHTS = "it runs a program with another user's rights"
"""As wrapper/shim/watch.h has it: such a program has no such rights under watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run may do as it likes: `own` are paths below which it may write; `unseen` those that
    do not count; `temporary` where names are made up. `links` are those below `own` that lead out,
    and where to; `left` those that it may leave elsewhere."""

    own: str
    unseen: tuple[str, ...]
    temporary: str
    links: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Seen:
    """`reads` maps paths to `o` when they were opened and to `s` when it was only asked whether
    they are there; `programs` are the paths of what was run; `made` what was made where names are
    made up; `asked` the variables that it asked for; `own_programs` those that it had made and ran
    itself; `there` are the paths read where something was when the run had ended; `upwards`: of
    paths read, how they were named with `..`; `left` the links that it leaves elsewhere;
    `trouble` says, if anything does, why the run must not be kept."""

    reads: dict[str, str] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    own_programs: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)
    upwards: dict[str, set[str]] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    trouble: str | None = None


def decode(data: bytes) -> list[tuple[str, str]]:
    """Kinds and paths, in the order in which they came up."""
    texts = (text.decode("utf-8", "surrogateescape") for text in data.split(b"\0") if text)
    return [(text[0], text[1:]) for text in texts]


def sort_out(accesses: Iterable[tuple[str, str]], around: Surroundings) -> Seen:
    """What of the accesses the run's result depends on."""
    seen, places, ways = Seen(left=around.left), RealPlaces(), ways_to(around.left)
    for kind, named in accesses:
        if kind in "!v":
            _note_word(seen, kind, named)
            continue
        path = _led(_normal(named, places), kind, around)
        is_left = kind in "cms" and (path in around.left or path in ways)
        if is_left or is_below(path, (around.own, *around.unseen)) or _is_neutral(kind, path):
            _note_own(seen, kind, path, around.own)
            continue
        if (path == around.temporary and kind != "o") or (seen.made and _is_made(path, seen.made)):
            _note_own(seen, kind, path)
            continue
        if kind == "l":
            _note_target(seen, path, around)
        elif kind == "c" and _is_made_up(path, around.temporary):
            seen.made.add(path)
        elif kind in "cm":
            seen.trouble = seen.trouble or f"it writes {path}"
        elif is_below(path, _SPECIAL) and path not in FACTS:
            seen.trouble = seen.trouble or f"it reads {path}"
        else:
            _note_read(seen, kind, path, named)
    return seen


def _is_made(path: str, made: Collection[str]) -> bool:
    if len(made) <= _FEW:
        return is_below(path, made)
    return any(part in made for part in (path, *above(path)))


def _is_made_up(path: str, temporary: str) -> bool:
    return is_below(path, (temporary,)) or _OF_RUSTC.fullmatch(os.path.basename(path)) is not None


def _is_neutral(kind: str, path: str) -> bool:
    # what is special is there everywhere
    is_there = kind == "s" and (path in _SPECIAL or path == "/")
    return is_there or _NEUTRAL.fullmatch(path) is not None


def left_behind(seen: Seen) -> str | None:
    """What a run that has ended made outside of OUT_DIR and did not remove."""
    return next((path for path in sorted(seen.made) if os.path.lexists(path)), None)


def _led(path: str, kind: str, around: Surroundings) -> str:
    """Where a path through a link that leads out of OUT_DIR really lies."""
    if path in around.left and kind in "ox":
        return around.left[path]
    if around.links and is_below(path, (around.own,)):
        for each in (path, *above(path)):
            if each in around.links and (each != path or kind in "osx"):
                return around.links[each] + path[len(each) :]
    return path


def _note_target(seen: Seen, path: str, around: Surroundings) -> None:
    if os.path.realpath(path) not in (*around.links.values(), *around.left.values()):
        seen.trouble = seen.trouble or f"it makes a link to {path} that is gone"


def _note_word(seen: Seen, kind: str, word: str) -> None:
    if kind == "v":
        seen.asked.add(word)
    else:
        seen.trouble = seen.trouble or word


def _note_own(seen: Seen, kind: str, path: str, own: str = "") -> None:
    if kind == "x" and is_below(path, (own,)):
        seen.own_programs.add(path)


def _note_read(seen: Seen, kind: str, path: str, named: str) -> None:
    if "/.." in named:
        seen.upwards.setdefault(path, set()).add(named)
    if kind == "x":
        seen.programs.add(path)
    if kind != "s" or path not in seen.reads:
        seen.reads[path] = "s" if kind == "s" else "o"


def _normal(path: str, places: RealPlaces) -> str:
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if match := _UPWARDS.match(path):  # what a link leads to may have another parent
        path = places.directory(match.group()).rstrip("/") + path[match.end() :] or "/"
    return os.path.normpath(path) if "//" in path or "/." in path or path.endswith("/") else path
