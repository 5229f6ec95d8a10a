"""What the scheduler wants done. The driver carries commands out in order."""

from __future__ import annotations

from dataclasses import dataclass

from remote_apis.digest import Digest
from server.scheduler.values import Failure, OperationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Run this action."""

    digest: Digest
    action: bytes
    queued_at: int
    instance_suffix: str
    """Joined to the worker's instance name prefix it gives the instance name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StayIdle:
    """Drop whatever you do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepGoing:
    """Go on with what you do."""


Answer = Assign | StayIdle | KeepGoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWorker(Command):
    """End the synchronisation `call`; the worker calls again within `next_in` seconds."""

    call: int
    answer: Answer
    next_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult(Command):
    """Check and store a worker's result, then say ResultChecked."""

    execution: int
    attempt: int
    instance: str
    digest: Digest
    do_not_cache: bool
    worker: str
    queued_at: int
    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseOperation(Command):
    """The operation was not created; tell the client why."""

    operation: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOperation(Command):
    """The operation's snapshot has changed; wake whoever watches it."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistOperation(Command):
    """Keep the record. `urgent`: somebody waits for it to be durable."""

    record: OperationRecord
    urgent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishOperation(Command):
    """Keep the record with its response, then say OperationRecorded."""

    record: OperationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetOperation(Command):
    """The operation is gone; its record may go too."""

    operation: str
