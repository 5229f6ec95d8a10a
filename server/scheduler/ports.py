"""What the scheduler needs from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from remote_apis.digest import Digest
from server.scheduler.values import Failure, OperationRecord


class Clock(Protocol):
    """Both clocks. Tests wind their own."""

    def monotonic(self) -> float:
        """Seconds that never go back; for every deadline."""
        ...

    def wall(self) -> int:
        """Nanoseconds since 1970; only for timestamps that people and clients see."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wall(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()


class OperationRepository(Protocol):
    """Operations across restarts; server.db.operations is one, `MemoryRepository` another."""

    async def apply(self, put: Sequence[OperationRecord], removed: Sequence[str]) -> None:
        """Insert or replace the records and remove the named ones, all or nothing.

        Durable when this returns. Raises Unavailable when the database cannot be written now.
        """
        ...

    async def load(self) -> list[OperationRecord]:
        """All records, in the order of their sequence numbers."""
        ...


class MemoryRepository:
    """Keeps operations only as long as this object lives."""

    def __init__(self) -> None:
        self._records: dict[str, OperationRecord] = {}

    async def apply(self, put: Sequence[OperationRecord], removed: Sequence[str]) -> None:
        """Insert, replace and remove."""
        self._records.update((record.name, record) for record in put)
        for name in removed:
            self._records.pop(name, None)

    async def load(self) -> list[OperationRecord]:
        """All records, in the order of their sequence numbers."""
        return sorted(self._records.values(), key=lambda record: record.sequence)


class DrainedWorkers(Protocol):
    """The names of drained workers across restarts; server.db.drained_workers is one.

    What `add` and `remove` change is durable when they return, all or nothing. All raise
    Unavailable, and those two OutOfSpace.
    """

    async def add(self, names: Collection[str]) -> None:
        """Add names; some may be there already."""
        ...

    async def remove(self, names: Collection[str]) -> None:
        """Remove names; some may be absent."""
        ...

    async def load(self) -> frozenset[str]:
        """All names."""
        ...


class MemoryDrainedWorkers:
    """Keeps names only as long as this object lives."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    async def add(self, names: Collection[str]) -> None:
        """Add names."""
        self._names.update(names)

    async def remove(self, names: Collection[str]) -> None:
        """Remove names."""
        self._names.difference_update(names)

    async def load(self) -> frozenset[str]:
        """All names."""
        return frozenset(self._names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a worker reported for an action: to be checked, stored and given out."""

    instance: str
    digest: Digest
    do_not_cache: bool
    worker: str
    queued_at: int
    """Wall clock, nanoseconds."""
    response: bytes
    """The worker's serialised ExecuteResponse."""


class ResultKeeper(Protocol):
    """Stands between the worker's report and the client."""

    async def __call__(self, outcome: Outcome) -> bytes | Failure:
        """The ExecuteResponse to give out, or why the result cannot be believed.

        When it returns a response that may be cached, the ActionCache has it already. Errors of
        remote_apis.errors count as failures that another attempt may mend.
        """
        ...
