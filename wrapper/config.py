"""Settings: the `[distbuild]` table of cargo's configuration files, and variables over them.

The files are those that cargo itself merges: `.cargo/config.toml` (or `.cargo/config`) in the
working directory and every directory above it, then in CARGO_HOME; the nearest wins, key by key.
cargo leaves a table that it does not know alone. Standard library only: read at every start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = "distbuild"


class ConfigError(Exception):
    """A configuration file is wrong; the message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A key of the table and the variable that carries it. `check` returns what is wrong, if any
    thing is, with the text of a value."""

    key: str
    variable: str
    kind: type
    check: Callable[[str], str | None]
    meaning: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """What holds for a setting, and where that is said: `FILE:LINE`, a variable, or `default`."""

    text: str
    origin: str


def _anything(text: str) -> str | None:
    return None


def _is_remote(text: str) -> str | None:
    if text in ("none", "embedded", "") or re.fullmatch(r"(grpcs?://.+:\d+|unix:.+)", text):
        return None
    return "must be grpc://HOST:PORT, grpcs://HOST:PORT, unix:PATH, embedded or none"


def _is_positive(text: str) -> str | None:
    return None if re.fullmatch(r"[1-9]\d{0,5}", text) else "must be a number from 1 on"


def _is_count(text: str) -> str | None:
    return None if re.fullmatch(r"\d{1,6}", text) else "must be a number from 0 on"


def _is_size(text: str) -> str | None:
    return None if re.fullmatch(r"[1-9]\d*[KMGT]?", text) else "must be a size such as 20G"


def _is_switch(text: str) -> str | None:
    return None if text in ("true", "false") else "must be true or false"


def _is_sandbox(text: str) -> str | None:
    return None if text in ("bubblewrap", "none") else "must be bubblewrap or none"


SETTINGS = (
    Setting(key="remote", variable="DISTBUILD_REMOTE", kind=str, check=_is_remote, default="none",
            meaning="the server: an address, embedded, or none"),
    Setting(key="instance", variable="DISTBUILD_INSTANCE", kind=str, check=_anything,
            meaning="the server's instance name"),
    Setting(key="home", variable="DISTBUILD_HOME", kind=str, check=_anything,
            meaning="local cache and daemon state"),
    Setting(key="jobs", variable="DISTBUILD_JOBS", kind=int, check=_is_positive,
            meaning="units that cargo has under way at a time"),
    Setting(key="cache-size", variable="DISTBUILD_CACHE_SIZE", kind=str, check=_is_size,
            default="20G", meaning="what the local cache may take"),
    Setting(key="live", variable="DISTBUILD_LIVE", kind=bool, check=_is_switch, default="true",
            meaning="show remote work in the terminal's title"),
    Setting(key="workers", variable="DISTBUILD_WORKERS", kind=int, check=_is_count,
            meaning="workers of the embedded server"),
    Setting(key="sandbox", variable="DISTBUILD_SANDBOX", kind=str, check=_is_sandbox,
            default="bubblewrap", meaning="how the embedded server's workers isolate actions"),
    Setting(key="max-size", variable="DISTBUILD_MAX_SIZE", kind=str, check=_anything,
            meaning="what the embedded server may keep, such as 20G"),
)  # fmt: skip
_BY_KEY = {setting.key: setting for setting in SETTINGS}


def config_files(directory: Path, environment: Mapping[str, str]) -> list[Path]:
    """The files that cargo would read in `directory`, those that win first."""
    home = environment.get("CARGO_HOME") or os.path.join(environment.get("HOME", "/"), ".cargo")
    places = [above / ".cargo" for above in (directory, *directory.parents)]
    # below CARGO_HOME's parent the same file would come twice
    places = [*dict.fromkeys([*places, Path(home)])]
    # of two in one place cargo takes the one without an ending, and says so
    found = (
        next((f for name in ("config", "config.toml") if (f := place / name).is_file()), None)
        for place in places
    )
    return [file for file in found if file is not None]


def read_file(path: Path) -> dict[str, Value]:
    """The settings of one file by key, each with its origin. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if TABLE.encode() not in content:
        return {}  # most files; cargo says what else is wrong in them
    import tomllib  # noqa: PLC0415 — 5 ms at the start of each build that would not need them

    try:
        text = content.decode()
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ConfigError(f"{path}:{line.group(1) if line else 1}: {error}") from None
    table = data.get(TABLE, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}:{_line_of(text, '')}: {TABLE} must be a table")
    found = {}
    for key, value in table.items():
        origin = f"{path}:{_line_of(text, key)}"
        found[key] = Value(_text(key, value, origin, path), origin)
    return found


def _text(key: str, value: Any, origin: str, path: Path) -> str:
    setting = _BY_KEY.get(key)
    if setting is None:
        known = ", ".join(_BY_KEY)
        raise ConfigError(f"{origin}: unknown key {key} in [{TABLE}] (known: {known})")
    if type(value) is not setting.kind:
        kinds = {str: "a string", int: "a whole number", bool: "true or false"}
        raise ConfigError(f"{origin}: {TABLE}.{key} must be {kinds[setting.kind]}")
    text = str(value).lower() if setting.kind is bool else str(value)
    wrong = setting.check(text)
    if wrong is not None:
        raise ConfigError(f"{origin}: {TABLE}.{key} {wrong}, and is {text!r}")
    if key == "home":
        # as all paths in these files: relative to the directory that .cargo lies in
        text = os.path.join(path.parent.parent.absolute(), text)
    return text


def _line_of(text: str, key: str) -> int:
    """The line on which the table, or a key in it, is set."""
    name = re.escape(key)
    in_table = f"""["']?{name}["']?\\s*="""
    dotted = rf"""["']?{TABLE}["']?\s*(\.\s*["']?{name}["']?\s*=|=.*\b{name}\b)"""
    section = ""
    first = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        header = re.match(r"\[\[?\s*([^\]]+?)\s*\]", stripped)
        if header:
            section = header.group(1).strip("\"'")
        at_table = section == TABLE or (not section and re.match(dotted, stripped))
        first = first or (number if at_table or stripped.startswith(TABLE) else 0)
        if key and (
            (section == TABLE and re.match(in_table, stripped))
            or (section.startswith(f"{TABLE}.{key}"))
            or (not section and re.match(dotted, stripped))
        ):
            return number
    return first or 1


def from_files(directory: Path, environment: Mapping[str, str]) -> dict[str, Value]:
    """The settings that the files make, by key. Raises ConfigError."""
    found: dict[str, Value] = {}
    for path in config_files(directory, environment):
        found = read_file(path) | found
    return found


def variables_of(values: Mapping[str, Value], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that carry these settings, without those that `environment` sets itself."""
    return {
        _BY_KEY[key].variable: value.text
        for key, value in values.items()
        if _BY_KEY[key].variable not in environment
    }


def effective(directory: Path, environment: Mapping[str, str]) -> dict[str, Value]:
    """Every setting with its origin; a variable wins over the files. Raises ConfigError."""
    files = from_files(directory, environment)
    found = {}
    for setting in SETTINGS:
        value = files.get(setting.key, Value(setting.default, "default"))
        if setting.variable in environment:
            value = Value(environment[setting.variable], f"variable {setting.variable}")
        found[setting.key] = value
    return found


def wrong_variables(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the variables that are set, one sentence each."""
    found = []
    for setting in SETTINGS:
        text = environment.get(setting.variable, "")
        wrong = setting.check(text) if text else None
        if wrong is not None:
            found.append(f"{setting.variable} {wrong}, and is {text!r}")
    return found
