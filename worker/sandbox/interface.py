"""What the worker asks of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remote_apis.errors import DistbuildError
from worker.config import ResourceLimits
from worker.materialise import Owner


class SandboxError(DistbuildError):
    """The sandbox itself failed: trouble of this worker, not of the action (INTERNAL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRoot:
    """A root file system that an action sees as its `/`, read-only, and the user it is in there.

    It has directories /proc, /dev, /tmp and /build, and a file /etc/resolv.conf.
    """

    root: Path
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRequest:
    """A command to run. `slot` tells actions that run at the same time apart.

    `root` is the input root on this machine, `temporary` a directory to be made that becomes the
    action's /tmp where the sandbox can do that; stdout and stderr are files to be made.
    `is_file_system`: the input root brings its own programs and wants to be `/`. `wrapper` is a
    program with arguments to start the sandbox by. `network`: it may reach the network. `image`
    is what it sees in place of this machine's programs; an input root is never `/` then.
    """

    slot: int
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    root: Path
    temporary: Path
    stdout: Path
    stderr: Path
    limits: ResourceLimits
    is_file_system: bool = False
    wrapper: tuple[str, ...] = ()
    network: bool = False
    image: ImageRoot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command ended: its exit code (128 + n for signal n), and whether it ran out of time.

    `seconds` were counted by the clock that enforces the timeout.
    """

    exit_code: int
    timed_out: bool
    seconds: float
    ran_out_of_memory: bool = False


class Sandbox(Protocol):
    """Runs commands. Every implementation passes tests/worker's sandbox suite."""

    def inside(self, root: Path, *, is_file_system: bool = False) -> str:
        """The path at which the action sees its input root."""
        ...

    def owner(self, slot: int) -> Owner | None:
        """Whom the action's directories must belong to; None for the worker's own user.

        With an owner the action cannot alter files of the worker's cache.
        """
        ...

    async def run(self, request: SandboxRequest, *, timeout: float | None) -> Finished:
        """Run to the end, or kill after `timeout` seconds or when cancelled.

        No process of the action is left when this returns or raises. Raises SandboxError.
        """
        ...


def tail(path: Path, length: int = 2000) -> str:
    """The last of a file's text, for a message; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - length))
            return file.read(length).decode(errors="replace").strip()
    except OSError:
        return ""
