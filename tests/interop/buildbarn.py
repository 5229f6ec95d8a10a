"""Buildbarn's daemons, each started with the configuration beside this file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leftovers import processes

from .processes import client_environment, service


@contextmanager
def daemon(
    program: Path, name: str, state: Path, *, socket: str | None = None, server: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """One of them, until the block ends; ready when its socket is there, if it has one.

    `state` is for all that they keep, sockets included; `server` is a distbuild server, HOST:PORT.
    """
    path = None if socket is None else state / socket
    if path is not None:
        path.unlink(missing_ok=True)  # That of one that was killed.
    variables = {"BB_STATE": str(state), "DISTBUILD_SERVER": server}
    with service(
        [program, Path(__file__).with_name(f"{name}.jsonnet")],
        log=state / f"{name}.log",
        ready=lambda: path is None or path.exists(),
        environment=client_environment(state / "home", variables),
    ) as process:
        yield process


def count_lines(path: Path) -> int:
    """How often an action without a sandbox has said on `path` that it ran."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def runs(mark: str) -> bool:
    """Whether a process with `mark` in its command line runs on this machine."""
    return bool(processes(mark))
