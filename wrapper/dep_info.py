"""rustc's dep-info files: which environment a compile read, and their paths made the user's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

from wrapper.replacing import replace_all

_ENV_DEP = re.compile(rb"^# env-dep:([^=\n]+)(?:=(.*))?$", re.MULTILINE)
_ENV_LINE = re.compile(rb"^(# env-dep:.*\n?)", re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
Pairs = Iterable[tuple[str, str]]


def environment_read(dep_info: bytes) -> dict[str, str | None]:
    """Variables that `env!` and `option_env!` asked for, with what they got (None: unset)."""
    found: dict[str, str | None] = {}
    for name, value in _ENV_DEP.findall(dep_info):
        found[name.decode()] = _unescape(value.decode("utf-8", "surrogateescape"))
    for match in _ENV_DEP.finditer(dep_info):
        if match.group(2) is None:
            found[match.group(1).decode()] = None
    return found


def files_read(dep_info: bytes) -> list[str]:
    """The files that a compile read: each has a rule of its own without prerequisites."""
    lines = dep_info.decode("utf-8", "surrogateescape").split("\n")
    rules = (line[:-1] for line in lines if line.endswith(":") and not line.startswith("#"))
    return [_unescape(rule) for rule in rules]


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda m: {"n": "\n", "r": "\r"}.get(m.group(1), m.group(1)), text)


def _replace(data: bytes, pairs: Pairs) -> bytes:
    return replace_all(data, {os.fsencode(old): os.fsencode(new) for old, new in pairs})


def rewrite_dep_info(dep_info: bytes, pairs: Pairs) -> bytes:
    """The file with every path of the worker turned into the user's.

    In rules a space is escaped; in `# env-dep:` lines cargo takes it as it is.
    """
    pairs = list(pairs)
    plain = [(old, new.replace("\\", "\\\\")) for old, new in pairs]
    # rustc escapes the spaces of what was read and not of what was made
    escaped = [(old, new.replace(" ", "\\ ")) for old, new in pairs]
    escaped += [(old.replace(" ", "\\ "), new) for old, new in escaped if " " in old]
    # every second piece is such a line
    pieces = _ENV_LINE.split(dep_info)
    return b"".join(
        _replace(piece, plain if number % 2 else escaped) for number, piece in enumerate(pieces)
    )


def rewrite_messages(stderr: bytes, pairs: Pairs) -> bytes:
    """rustc's JSON messages with every path of the worker turned into the user's."""
    return _replace(stderr, [(_in_json(old), _in_json(new)) for old, new in pairs])


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
