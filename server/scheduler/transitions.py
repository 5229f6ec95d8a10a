"""The states of an operation and the table of its moves: every change of state is a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from server.scheduler.values import Stage


class State(Enum):
    """Where an operation is. Operations that share an execution share its state."""

    NEW = auto()
    """Not yet known."""
    QUEUED = auto()
    """Waits for a worker."""
    RETURNING = auto()
    """Was at a worker when the scheduler went down, and waits for that one to come back."""
    EXECUTING = auto()
    """A worker has the lease."""
    CHECKING = auto()
    """A worker has reported a result, which is being checked and stored."""
    RECORDING = auto()
    """The response is decided and is being made durable; clients do not see it yet."""
    DONE = auto()
    """The response can be had."""
    GONE = auto()
    """Not known any more."""


STAGES: Mapping[State, Stage] = {
    State.QUEUED: Stage.QUEUED,
    State.RETURNING: Stage.EXECUTING,
    State.EXECUTING: Stage.EXECUTING,
    State.CHECKING: Stage.EXECUTING,
    State.RECORDING: Stage.EXECUTING,
    State.DONE: Stage.COMPLETED,
}


class Trigger(Enum):
    """Why an operation moves."""

    REQUESTED = "requested"
    RESTORED = "restored after a restart"
    LEFT = "restored after a restart, was at a worker"
    FOUND = "result was cached"
    ASSIGNED = "leased to a worker"
    ADOPTED = "former worker is still at it"
    DROPPED = "former worker is not at it, or stays away"
    REPORTED = "worker reports completion"
    ACCEPTED = "result checked and stored"
    RETRIED = "lease lost or result refused, attempts left"
    GIVEN_UP = "lease lost or result refused, no attempt left"
    UNMATCHED = "no worker offers the platform"
    CANCELLED = "cancelled by a client"
    ABANDONED = "nobody waits for it"
    RECORDED = "response is durable"
    FORGOTTEN = "retention over or deleted"


class Persistence(Enum):
    """What a move means for the record."""

    NONE = auto()
    LATER = auto()
    """Worth keeping, but nobody waits for it."""
    URGENT = auto()
    """The client learns the operation's name after it is durable."""
    FINAL = auto()
    """The response is given out after it is durable."""
    REMOVED = auto()


@dataclass(frozen=True, slots=True)
class Transition:
    """The new state, whether clients see a change, and what happens to the record."""

    to: State
    publish: bool
    persistence: Persistence


def _row(to: State, persistence: Persistence = Persistence.NONE, *, quiet: bool) -> Transition:
    return Transition(to=to, publish=not quiet, persistence=persistence)


_QUEUED_AGAIN = _row(State.QUEUED, Persistence.LATER, quiet=False)
_DECIDED = _row(State.RECORDING, Persistence.FINAL, quiet=True)

TABLE: Mapping[tuple[State, Trigger], Transition] = {
    (State.NEW, Trigger.REQUESTED): _row(State.QUEUED, Persistence.URGENT, quiet=True),
    (State.NEW, Trigger.RESTORED): _row(State.QUEUED, quiet=True),
    (State.NEW, Trigger.LEFT): _row(State.RETURNING, quiet=True),
    (State.NEW, Trigger.FOUND): _row(State.DONE, quiet=True),
    (State.QUEUED, Trigger.ASSIGNED): _row(State.EXECUTING, Persistence.LATER, quiet=False),
    (State.QUEUED, Trigger.ADOPTED): _row(State.EXECUTING, Persistence.LATER, quiet=False),
    (State.RETURNING, Trigger.ADOPTED): _row(State.EXECUTING, Persistence.LATER, quiet=True),
    (State.RETURNING, Trigger.DROPPED): _row(State.QUEUED, quiet=False),
    (State.EXECUTING, Trigger.REPORTED): _row(State.CHECKING, quiet=True),
    (State.CHECKING, Trigger.ACCEPTED): _DECIDED,
    (State.EXECUTING, Trigger.RETRIED): _QUEUED_AGAIN,
    (State.CHECKING, Trigger.RETRIED): _QUEUED_AGAIN,
    (State.EXECUTING, Trigger.GIVEN_UP): _DECIDED,
    (State.CHECKING, Trigger.GIVEN_UP): _DECIDED,
    (State.QUEUED, Trigger.UNMATCHED): _DECIDED,
    (State.QUEUED, Trigger.CANCELLED): _DECIDED,
    (State.RETURNING, Trigger.CANCELLED): _DECIDED,
    (State.EXECUTING, Trigger.CANCELLED): _DECIDED,
    (State.CHECKING, Trigger.CANCELLED): _DECIDED,
    (State.QUEUED, Trigger.ABANDONED): _DECIDED,
    (State.RECORDING, Trigger.RECORDED): _row(State.DONE, quiet=False),
    (State.DONE, Trigger.FORGOTTEN): _row(State.GONE, Persistence.REMOVED, quiet=True),
}
