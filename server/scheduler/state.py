"""What the core remembers: operations, executions, workers and kinds of workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.scheduler.queue import RequirementQueue
from server.scheduler.transitions import State
from server.scheduler.values import ExecuteSpec, Offer, Requirement, WorkerDescription


@dataclass(slots=True, kw_only=True, eq=False)
class Execution:
    """An action to be run once, for one or more operations that share it."""

    number: int
    """That of the operation that started it, as `spec` and `queued_at`."""
    spec: ExecuteSpec
    queued_at: int
    operations: tuple[Operation, ...]
    """Those that are still to be answered."""
    priority: int
    """The most urgent of theirs."""
    state: State = State.NEW
    attempts: int = 0
    worker: str = ""
    """The holder of the lease, or of the latest one."""

    @property
    def requirement(self) -> Requirement:
        """What it asks of a worker."""
        return self.spec.requirement


@dataclass(slots=True, kw_only=True, eq=False)
class Operation:
    """What one client asked for."""

    name: str
    sequence: int
    spec: ExecuteSpec
    queued_at: int
    execution: Execution | None
    """Until the response is decided."""
    waiters: int = 0
    own_state: State = State.NEW
    """Once the response is decided."""
    attempts: int = 0
    worker: str = ""
    response: bytes | None = None

    @property
    def state(self) -> State:
        """Where it is in the transition table."""
        return self.own_state if self.execution is None else self.execution.state


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """A worker that has synchronised lately."""

    description: WorkerDescription
    kind: Kind
    last_seen: float
    lease: Execution | None = None
    leased_at: float = 0.0
    """When it got its lease, or was found to have it."""
    is_forgiven: bool = False
    """Whether it was given more time since it was last seen."""
    repeats: int = 0
    """How often it was told again of its lease."""
    call: int | None = None
    """The synchronisation that is held open, when it waits for work."""

    @property
    def name(self) -> str:
        """Tells it from all other workers."""
        return self.description.name


@dataclass(slots=True, kw_only=True, eq=False)
class Kind:
    """The workers with one and the same offer."""

    offer: Offer
    workers: dict[str, Worker] = field(default_factory=dict)
    waiting: dict[str, Worker] = field(default_factory=dict)
    """Those that could start at once, the latest comer last."""
    queues: dict[Requirement, RequirementQueue] = field(default_factory=dict)
    """The queues that these workers may take from."""
