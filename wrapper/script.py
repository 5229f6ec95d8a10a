"""The runner: a POSIX shell script in the input root that starts rustc with real paths.

Only the worker knows the absolute path of the input root, and rustc needs it: the script takes
it from `pwd`, prints it as the first line of stdout, and puts it wherever ROOT stands.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from wrapper.roots import ROOT

_WITHOUT = "# without "


def quote(text: str) -> str:
    """One shell word for a text in which ROOT stands for the variable R."""
    quoted = "'" + text.replace("'", "'\\''") + "'"
    return quoted.replace(ROOT, "'\"$R\"'")


def runner_script(
    *,
    directory: str,
    environment: Mapping[str, str],
    command: Sequence[str],
    absent: Iterable[str] = (),
) -> bytes:
    """The script that runs `command` in `directory`, both with ROOT in them.

    Nothing is set in it but `environment`; `absent` names what is not there, which counts.
    """
    lines = ["#!/bin/sh", "set -e", "R=$(pwd -P)", "printf '%s\\n' \"$R\""]
    lines.append(f"cd {quote(directory)}")
    lines += [_WITHOUT + quote(name).replace("\n", "\\n") for name in sorted(absent)]
    # not by `export`: some names are the shell's own, and CARGO_BIN_EXE_a-b is none for it
    variables = [f"{name}={value}" for name, value in sorted(environment.items())]
    # nothing of the worker's own environment gets through
    words = ["/usr/bin/env", "-i", *variables, *command]
    lines.append("exec " + " ".join(quote(word) for word in words))
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def root_of(stdout: bytes) -> tuple[str, bytes]:
    """The input root that a runner printed, and what rustc itself wrote on stdout."""
    first, _, rest = stdout.partition(b"\n")
    return first.decode("utf-8", "surrogateescape"), rest


def commands_of(script: bytes) -> tuple[dict[str, str], list[str]]:
    """Environment and command of a runner script, with `$R` for its ROOT.

    Raises ValueError when it is no script of `runner_script`.
    """
    text = script.decode("utf-8", "surrogateescape")
    _, found, command = text.partition("\nexec ")
    if not found:
        raise ValueError("the script starts no program")
    words = shlex.split(command)
    if words[:2] != ["/usr/bin/env", "-i"]:
        raise ValueError(f"the script starts {' '.join(words[:1])}")
    environment: dict[str, str] = {}
    rest = words[2:]
    while rest and "=" in rest[0]:
        name, _, value = rest.pop(0).partition("=")
        environment[name] = value
    return environment, rest


def absent_of(script: bytes) -> list[str]:
    """What a runner script says that is not there."""
    lines, _, _ = script.decode("utf-8", "surrogateescape").partition("\nexec ")
    said = (line for line in lines.split("\n") if line.startswith(_WITHOUT))
    return [shlex.split(line.removeprefix(_WITHOUT))[0] for line in said]
