"""The values that the scheduler is told and tells: actions to run, workers, snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from remote_apis.digest import Digest, PackedDigest

Platform = tuple[tuple[str, str], ...]
"""Platform properties as (name, value) pairs, sorted; a name may appear more than once."""


class Stage(IntEnum):
    """What clients see of an operation's state; the numbers of REAPI 2.12 ExecutionStage."""

    CACHE_CHECK = 1
    QUEUED = 2
    EXECUTING = 3
    COMPLETED = 4


class Requirement(NamedTuple):
    """What an action asks of a worker."""

    instance: str
    platform: Platform


class Offer(NamedTuple):
    """What a worker can take: instance names by prefix, and platform properties."""

    prefix: str
    platform: Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a client would like to find in the response itself (REAPI 2.12 ExecuteRequest)."""

    stdout: bool = False
    stderr: bool = False
    output_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteSpec:
    """A validated Execute request: the action, and how urgent it is."""

    requirement: Requirement
    packed_digest: PackedDigest
    action: bytes
    """The serialised Action that the worker is handed, with the timeout that applies."""
    do_not_cache: bool = False
    priority: int = 0
    """Lower is sooner (REAPI 2.12 ExecutionPolicy)."""
    invocation: str = ""
    """RequestMetadata.tool_invocation_id; workers are shared fairly between these."""
    label: str = ""
    """What people call it: mnemonic and target, for listings."""
    wishes: Wishes | None = None

    @property
    def digest(self) -> Digest:
        """The action's digest, kept packed for the sake of long queues."""
        return Digest.unpack(self.packed_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDescription:
    """A worker as it introduces itself with every synchronisation."""

    name: str
    offer: Offer
    size_class: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an execution has no result: a google.rpc.Code number and a message for the user."""

    code: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSnapshot:
    """An operation at one moment."""

    name: str
    sequence: int
    """Operations are numbered in the order of their requests."""
    requirement: Requirement
    digest: Digest
    stage: Stage
    queued_at: int
    """Wall clock, nanoseconds since 1970."""
    priority: int
    invocation: str
    label: str
    attempts: int
    """How many workers have been given it so far."""
    worker: str
    """The worker that runs it, or "" when none does."""
    wishes: Wishes | None
    response: bytes | None
    """The serialised ExecuteResponse; set if and only if the stage is COMPLETED."""

    @property
    def instance(self) -> str:
        """The instance name of the request."""
        return self.requirement.instance

    @property
    def is_done(self) -> bool:
        """Whether this is the last snapshot that there will be."""
        return self.stage is Stage.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSnapshot:
    """A worker at one moment, for listings."""

    name: str
    offer: Offer
    is_drained: bool
    is_waiting: bool
    operations: tuple[str, ...]
    """The operations of the action that it runs, if it runs one."""
    leased_at: float | None
    """When it got that action; monotonic seconds, as `last_seen`."""
    last_seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRecord:
    """An operation as it is kept across restarts."""

    name: str
    sequence: int
    spec: ExecuteSpec
    queued_at: int
    attempts: int = 0
    worker: str = ""
    """Who had the latest lease: it may still be at it after a restart."""
    response: bytes | None = None
    finished_at: int = 0
    """Wall clock, nanoseconds; 0 while unfinished."""
