"""What a worker is told when it starts."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from remote_apis.client.channel import TlsFiles
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

GIB = 1024**3
CONTAINER_ENGINES = ("auto", "docker", "podman", "none")
_ISA_ALIASES = {"x86_64": "x86-64", "aarch64": "arm-v8-a"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """What one action may use; None is no limit."""

    cpu_seconds: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    file_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One worker process. Sizes in bytes, times in seconds.

    `server` is the address of the OperationQueue, `cas` that of the CAS when it is another one.
    `directory` holds the blob cache and the actions' directories; one worker at a time uses it.
    `properties` is offered for matching (see `host_properties`), with the images that there are.
    """

    name: str
    server: str
    directory: Path
    cas: str | None = None
    tls: TlsFiles | None = None
    slots: int = field(default_factory=lambda: os.cpu_count() or 1)
    # Each slot shows as a worker of its own: NAME-1, NAME-2 and on.
    numbers_slots: bool = False
    instance_prefix: str = ""
    properties: tuple[tuple[str, str], ...] = ()
    # Whether a worker that uses the directory is to go: the one of a server that was killed.
    ends_predecessor: bool = False
    sandbox: str = "bubblewrap"
    # Where `container-image` finds OCI layouts and tarballs, and the engine that runs images by
    # name: auto, docker, podman or none.
    images: Path | None = None
    container_engine: str = "none"
    # Whether actions that ask for the network get it.
    allows_network: bool = False
    # Paths of this machine that actions in bubblewrap see beside its /usr, read-only.
    shown_paths: tuple[Path, ...] = ()
    cache_bytes: int = 10 * GIB
    # Files and directories of former input roots that are kept as they are.
    pool_entries: int = 300_000
    http_address: tuple[str, int] | None = None
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    # For actions that state no timeout; None lets them run on.
    default_timeout: float | None = None
    allow_absolute_symlinks: bool = True
    # Buildbarn's scheduler leaves writing results to the workers; ours writes them itself.
    updates_action_cache: bool = False
    # First of the user ids, one a slot, that actions get when the worker runs as root; None keeps
    # them the worker's own user.
    first_action_uid: int | None = 60_800

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidRequest("a worker needs a name")
        if self.slots < 1:
            raise InvalidRequest(f"worker {self.name} cannot have {self.slots} slots")
        if self.sandbox not in ("bubblewrap", "none"):
            raise InvalidRequest(f"sandbox {self.sandbox!r} is neither bubblewrap nor none")
        if self.container_engine not in CONTAINER_ENGINES:
            raise InvalidRequest(
                f"container engine {self.container_engine!r} is none of "
                f"{', '.join(CONTAINER_ENGINES)}"
            )

    def name_of(self, slot: int) -> str:
        """The name that results of a slot (from 0) carry."""
        return f"{self.name}-{slot + 1}" if self.numbers_slots else self.name

    def worker_id_of(self, slot: int) -> dict[str, str]:
        """The labels by which the scheduler tells a slot from all others."""
        labels = {"worker": self.name_of(slot)}
        if self.slots > 1 and not self.numbers_slots:
            labels["slot"] = str(slot + 1)
        return labels


def host_properties(extra: Iterable[tuple[str, str]] = ()) -> tuple[tuple[str, str], ...]:
    """The platform properties of this machine, and `extra` ones, sorted as REAPI 2.12 asks.

    A name in `extra` replaces the machine's own value.
    """
    machine = platform.machine()
    own = {
        "OSFamily": platform.system().lower(),
        "Arch": machine,
        "ISA": _ISA_ALIASES.get(machine, machine),
    }
    given = list(extra)
    replaced = {name for name, _ in given}
    kept = [(name, value) for name, value in own.items() if name not in replaced]
    return tuple(sorted({*kept, *given}))


def platform_message(properties: Iterable[tuple[str, str]]) -> re_pb.Platform:
    """The wire form of platform properties."""
    message = re_pb.Platform()
    for name, value in sorted(properties):
        message.properties.add(name=name, value=value)
    return message
