"""What must hold for the core's state after every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from server.scheduler import commands as c
from server.scheduler import events as e
from server.scheduler import matching
from server.scheduler.core import Core
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import OperationSnapshot, Stage, WorkerSnapshot
from tests.scheduler.world import Violated

Answered = tuple[e.WorkerSynchronized, c.Answer]
"""A worker's call, and what it was told."""


class Invariants:
    """Checks one core, from its start to its end.

    `unshared`: hashes of actions that may run more than once at a time. `invocations`: how many
    there are, when nobody's action is run on behalf of another invocation, so that one can tell
    from outside whose turn it is; else None. `contested` is added to: leases by invocation, where
    all had something queued.
    """

    def __init__(
        self,
        core: Core,
        settings: SchedulerSettings,
        *,
        unshared: Collection[str],
        invocations: int | None,
        contested: Counter[str],
    ) -> None:
        self._core = core
        self._settings = settings
        self._unshared = unshared
        self._invocations = invocations
        self._contested = contested
        self._leased: dict[str, tuple[str, float | None]] = {}
        self._leases: Counter[str] = Counter()

    def check(
        self,
        *,
        accepted: Iterable[str],
        forgotten: Collection[str],
        answered: Iterable[Answered],
    ) -> None:
        """Raise Violated unless the state makes sense.

        `accepted`: operations whose names clients know. `forgotten`: those that were dropped on
        purpose. `answered`: the workers that the latest event led to an answer for.
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
        before = self._leased
        self._check_attempts(operations.values(), leased)
        self._check_counts(operations.values())
        at = {worker.name: worker for worker in workers}
        started: list[tuple[WorkerSnapshot, OperationSnapshot]] = []
        for call, answer in answered:
            worker = at.get(call.worker.name)
            held = [operations[name] for name in worker.operations] if worker is not None else []
            if isinstance(answer, c.KeepGoing):
                _check_kept(call, held)
            elif worker is not None and held and before.get(held[0].name) != leased[held[0].name]:
                started.append((worker, held[0]))
        if started and self._invocations:
            self._check_turns(started, operations, workers)

    def _check_turns(
        self,
        started: Collection[tuple[WorkerSnapshot, OperationSnapshot]],
        operations: Mapping[str, OperationSnapshot],
        workers: Iterable[WorkerSnapshot],
    ) -> None:
        """Nothing more urgent was left, nor anything of an invocation that has fewer at workers."""
        shares = Counter(
            operations[each.operations[0]].invocation for each in workers if each.operations
        )
        new = Counter(chosen.invocation for _, chosen in started)
        queued = [each for each in operations.values() if each.stage is Stage.QUEUED]
        is_contested = len({each.invocation for each in queued}) == self._invocations
        for worker, chosen in started:
            before = shares[chosen.invocation] - new[chosen.invocation]
            for other in queued:
                turns = (other.priority, shares[other.invocation]), (chosen.priority, before)
                if turns[0] < turns[1] and matching.matches(other.requirement, worker.offer):
                    raise Violated(f"{chosen.name} got a worker, and it was {other.name}'s turn")
            if is_contested:
                self._contested[chosen.invocation] += 1

    def _check_attempts(
        self,
        operations: Iterable[OperationSnapshot],
        leased: Mapping[str, tuple[str, float | None]],
    ) -> None:
        limit = self._settings.max_attempts
        for name, lease in leased.items():
            if self._leased.get(name) != lease:
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


def _leases(workers: Iterable[WorkerSnapshot]) -> dict[str, tuple[str, float | None]]:
    """By operation: who has it, and since when."""
    leased: dict[str, tuple[str, float | None]] = {}
    for worker in workers:
        if worker.is_waiting and worker.operations:
            raise Violated(f"worker {worker.name} waits although it has a lease")
        if worker.leased_at is not None and not worker.operations:
            raise Violated(f"worker {worker.name} has a lease that nobody asked for")
        for name in worker.operations:
            if leased.setdefault(name, (worker.name, worker.leased_at))[0] != worker.name:
                raise Violated(f"operation {name} is leased to two workers")
    return leased


def _check_kept(call: e.WorkerSynchronized, held: Iterable[OperationSnapshot]) -> None:
    said = call.report.hash if isinstance(call.report, e.Executing) else ""
    if said not in {operation.digest.hash for operation in held}:
        raise Violated(f"worker {call.worker.name} may go on with {said!r}, which is not its lease")


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
