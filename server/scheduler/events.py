"""What happens to the scheduler. Each event carries `now`, in monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass

from server.scheduler.values import (
    ExecuteSpec,
    Failure,
    OperationRecord,
    WorkerDescription,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, and when."""

    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteRequested(Event):
    """A client wants an action run. `operation` is a name never used before."""

    operation: str
    spec: ExecuteSpec
    queued_at: int
    """Wall clock in nanoseconds, different for every request: it also tells leases apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFound(Event):
    """A client asked for an action whose result was already there."""

    operation: str
    spec: ExecuteSpec
    queued_at: int
    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRestored(Event):
    """An operation from before a restart."""

    record: OperationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEvent(Event):
    """Something that happened to one operation."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiterAttached(OperationEvent):
    """One more client waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiterDropped(OperationEvent):
    """One client less waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCancelled(OperationEvent):
    """A client asked for it to be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationDeleted(OperationEvent):
    """A client does not need it any more; it is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRecorded(OperationEvent):
    """Its response is durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultChecked(Event):
    """The check that CheckResult asked for is over: a response to give out, or a failure."""

    execution: int
    attempt: int
    verdict: bytes | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The worker does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executing:
    """The worker is at the action of this hash and size."""

    hash: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The worker is done with the action of this hash and size."""

    hash: str
    size: int
    response: bytes
    """The serialised ExecuteResponse."""
    code: int
    """Its status code; 0 is OK."""
    message: str = ""
    queued_at: int = 0
    """The queued_timestamp of the lease that it belongs to; 0 when the worker did not say."""


Report = Idle | Executing | Completed


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSynchronized(Event):
    """A worker reports what it does and asks what to do. `call` names the answer it waits for."""

    call: int
    worker: WorkerDescription
    report: Report
    prefers_idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent(Event):
    """Something that happened to one worker."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHungUp(WorkerEvent):
    """The call is gone before it was answered."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(WorkerEvent):
    """The worker is known to be dead. Silence is noticed by the core itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDrained(WorkerEvent):
    """The worker is to finish what it does and to get nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResumed(WorkerEvent):
    """The worker may get work again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time has passed; due when `Core.next_deadline` says so, harmless at any time.

    `late`: seconds by which it missed the deadline that it is for.
    """

    late: float = 0.0
