"""What must hold for the core's state after every event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from server.scheduler import matching
from server.scheduler.core import Core
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import OperationSnapshot, Stage, WorkerSnapshot
from tests.scheduler.world import Violated


def check_state(
    core: Core,
    settings: SchedulerSettings,
    *,
    accepted: Iterable[str],
    forgotten: Collection[str],
    unshared: Collection[str],
) -> None:
    """Raise Violated unless the state makes sense.

    `accepted`: operations whose names clients know. `forgotten`: those that were dropped on
    purpose. `unshared`: hashes of actions that may run more than once at a time.
    """
    operations = {snapshot.name: snapshot for snapshot in core.snapshots()}
    workers = core.workers()
    for name in accepted:
        if name not in operations and name not in forgotten:
            raise Violated(f"operation {name} was accepted and is lost")
    leased = _leases(workers)
    for name in leased:
        if operations[name].stage is not Stage.EXECUTING:
            raise Violated(f"operation {name} is leased and {operations[name].stage.name}")
    _check_one_lease_each(workers, operations, unshared)
    _check_queued(operations.values(), workers)
    for operation in operations.values():
        if operation.attempts > settings.max_attempts:
            raise Violated(f"operation {operation.name} was tried {operation.attempts} times")


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
