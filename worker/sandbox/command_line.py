"""The command line that an action's command becomes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

# bubblewrap takes 9,000 arguments in all, its own among them, and Linux 128 KiB in one argument
# and 2 MiB in all.
_MAX_ARGUMENTS = 8_000
_MAX_BYTES = 512 * 1024
_MAX_ARGUMENT_BYTES = 128 * 1024 - 1


def command_line(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command under env(1): it sets exactly `environment` and looks the program up in it.

    Not bubblewrap's own --setenv: an LD_PRELOAD there would be loaded into the program that still
    has to give up root. A program name with an equals sign would be taken for a variable; sh runs
    that.
    """
    line = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    if "=" in arguments[0]:
        line += ["/bin/sh", "-c", 'exec "$0" "$@"']
    return [*line, *arguments]


def is_long(line: Sequence[str]) -> bool:
    """Whether a command line is more than bubblewrap can be given."""
    sizes = [len(os.fsencode(argument)) for argument in line]
    return len(line) > _MAX_ARGUMENTS or sum(sizes) > _MAX_BYTES or max(sizes) > _MAX_ARGUMENT_BYTES


def write_script(path: Path, line: Sequence[str]) -> Path:
    """A shell script at `path` that becomes the command, however long. Raises OSError."""
    path.write_bytes(os.fsencode(f"exec {shlex.join(line)}\n"))
    path.chmod(0o644)
    return path
