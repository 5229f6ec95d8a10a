"""Options of the commands: each is a command-line option and an environment variable."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_apis.errors import InvalidRequest

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_DECIMAL = re.compile(r"\d{1,12}(?:\.\d{1,6})?")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """`name` is the long option without its dashes; `parse` raises ValueError on a bad value."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    help: str
    metavar: str

    @property
    def variable(self) -> str:
        """The environment variable that sets the option when the command line does not."""
        return "DISTBUILD_" + self.name.upper().replace("-", "_")

    @property
    def attribute(self) -> str:
        """The attribute of the parsed arguments."""
        return self.name.replace("-", "_")


def add_options(
    parser: argparse.ArgumentParser, options: list[Option], environment: Mapping[str, str]
) -> None:
    """Declare options, with values from the environment as defaults.

    Raises InvalidRequest when a variable holds a wrong value, naming it.
    """
    for option in options:
        text = environment.get(option.variable, option.default)
        try:
            default = None if text is None else option.parse(text)
        except ValueError as error:
            raise InvalidRequest(f"{option.variable}={text}: {error}") from None
        shown = "" if option.default is None else f", default {option.default}"
        parser.add_argument(
            f"--{option.name}",
            type=_argument(option),
            default=default,
            metavar=option.metavar,
            help=f"{option.help} (${option.variable}{shown})",
        )


def _argument(option: Option) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse


def listen_address(text: str) -> str:
    """HOST:PORT or unix:PATH. Raises ValueError."""
    if text.startswith("unix:"):
        if len(text) == len("unix:"):
            raise ValueError("names no socket")
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError("is not HOST:PORT or unix:PATH")
    return text


def count(text: str) -> int:
    """A number from 0 up. Raises ValueError."""
    if not text.isdecimal():
        raise ValueError("is not a number from 0 up")
    return int(text)


def positive(text: str) -> int:
    """A number from 1 up. Raises ValueError."""
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("is not a number from 1 up")
    return int(text)


def decimal(text: str) -> float:
    """A number above 0, such as 1.5. Raises ValueError."""
    if not _DECIMAL.fullmatch(text) or float(text) <= 0:
        raise ValueError("is not a number above 0")
    return float(text)


def seconds(text: str) -> float:
    """A time above 0, in seconds. Raises ValueError."""
    if not _DECIMAL.fullmatch(text) or float(text) <= 0:
        raise ValueError("is not a number of seconds above 0")
    return float(text)


def size(text: str) -> int:
    """Bytes, as in 500M or 50G. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError("is not a size such as 500M or 50G")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])


def choice(*words: str) -> Callable[[str], str]:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is none of {', '.join(words)}")
        return text

    return parse


def directory(text: str) -> Path:
    """A directory, which need not exist yet."""
    if not text or "\0" in text:
        raise ValueError("is not a path")
    return Path(text).expanduser().absolute()


def existing_directory(text: str) -> Path:
    """A directory that is there."""
    path = directory(text)
    if not path.is_dir():
        raise ValueError("is not a directory")
    return path


def default_data_dir(environment: Mapping[str, str]) -> str:
    """`cargo-distbuild/server` in the user's data directory."""
    base = environment.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "cargo-distbuild", "server")
