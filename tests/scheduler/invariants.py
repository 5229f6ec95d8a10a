"""What must hold for the core's state after every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from server.scheduler import matching
from server.scheduler.core import Core
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import OperationSnapshot, Stage, WorkerSnapshot
from tests.scheduler.world import Violated


class Invariants:
    """Checks one core, from its start to its end.

    `unshared`: hashes of actions that may run more than once at a time.
    """

    def __init__(
        self, core: Core, settings: SchedulerSettings, *, unshared: Collection[str]
    ) -> None:
        self._core = core
        self._settings = settings
        self._unshared = unshared
        self._leased: dict[str, str] = {}
        self._leases: Counter[str] = Counter()

    def check(self, *, accepted: Iterable[str], forgotten: Collection[str]) -> None:
        """Raise Violated unless the state makes sense.

        `accepted`: operations whose names clients know. `forgotten`: those that were dropped on
        purpose.
        """
        operations = {snapshot.name: snapshot for snapshot in self._core.snapshots()}
        workers = self._core.workers()
        for name in accepted:
            if name not in operations and name not in forgotten:
                raise Violated(f"operation {name} was accepted and is lost")
        leased = _leases(workers)
        for name in leased:
            if operations[name].stage is not Stage.EXECUTING:
                raise Violated(f"operation {name} is leased and {operations[name].stage.name}")
        _check_one_lease_each(workers, operations, self._unshared)
        _check_queued(operations.values(), workers)
        self._check_attempts(operations.values(), leased)
        self._check_counts(operations.values())

    def _check_attempts(
        self, operations: Iterable[OperationSnapshot], leased: Mapping[str, str]
    ) -> None:
        limit = self._settings.max_attempts
        for name, worker in leased.items():
            if self._leased.get(name) != worker:
                self._leases[name] += 1
        self._leased = dict(leased)
        for operation in operations:
            if max(operation.attempts, self._leases[operation.name]) > limit:
                raise Violated(f"operation {operation.name} had more than {limit} leases")

    def _check_counts(self, operations: Iterable[OperationSnapshot]) -> None:
        queued = {
            (snapshot.requirement, snapshot.name if hash_ in self._unshared else hash_)
            for snapshot in operations
            if snapshot.stage is Stage.QUEUED
            for hash_ in (snapshot.digest.hash,)
        }
        expected = Counter(requirement for requirement, _ in queued)
        if self._core.queued() != expected:
            raise Violated(f"queues count {self._core.queued()}, there are {expected}")


def _leases(workers: Iterable[WorkerSnapshot]) -> dict[str, str]:
    leased: dict[str, str] = {}
    for worker in workers:
        if worker.is_waiting and worker.operations:
            raise Violated(f"worker {worker.name} waits although it has a lease")
        for name in worker.operations:
            if leased.setdefault(name, worker.name) != worker.name:
                raise Violated(f"operation {name} is leased to two workers")
    return leased


def _check_one_lease_each(
    workers: Iterable[WorkerSnapshot],
    operations: Mapping[str, OperationSnapshot],
    unshared: Collection[str],
) -> None:
    holders: dict[str, str] = {}
    for worker in workers:
        for name in worker.operations[:1]:
            hash_ = operations[name].digest.hash
            if hash_ not in unshared and holders.setdefault(hash_, worker.name) != worker.name:
                raise Violated(f"action {hash_} has two live leases")


def _check_queued(
    operations: Iterable[OperationSnapshot], workers: Iterable[WorkerSnapshot]
) -> None:
    free = {worker.offer for worker in workers if worker.is_waiting and not worker.is_drained}
    if not free:
        return
    for operation in operations:
        if operation.stage is Stage.QUEUED and any(
            matching.matches(operation.requirement, offer) for offer in free
        ):
            raise Violated(f"operation {operation.name} is queued while a worker waits for it")
