"""rustc's dep-info files: which environment a compile read, and their paths made the user's."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ENV_DEP = re.compile(rb"^# env-dep:([^=\n]+)(?:=(.*))?$", re.MULTILINE)
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


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda m: {"n": "\n", "r": "\r"}.get(m.group(1), m.group(1)), text)


def _replace(data: bytes, pairs: Pairs, escape: str) -> bytes:
    for old, new in pairs:
        text = new
        if escape == "make":
            text = new.replace(" ", "\\ ")
        elif escape == "json":
            text = new.replace("\\", "\\\\").replace('"', '\\"')
        data = data.replace(old.encode(), text.encode("utf-8", "surrogateescape"))
    return data


def rewrite_dep_info(dep_info: bytes, pairs: Pairs) -> bytes:
    """The file with every path of the worker turned into the user's (spaces escaped)."""
    return _replace(dep_info, pairs, "make")


def rewrite_messages(stderr: bytes, pairs: Pairs) -> bytes:
    """rustc's JSON messages with every path of the worker turned into the user's."""
    return _replace(stderr, pairs, "json")
