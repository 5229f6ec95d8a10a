"""Brings queued executions and waiting workers together; what is possible, not when."""

from __future__ import annotations

from server.scheduler import fairness, matching
from server.scheduler.queue import Lane, RequirementQueue
from server.scheduler.state import Execution, Kind, Worker
from server.scheduler.values import Offer, Requirement

_MAX_REMEMBERED_INVOCATIONS = 4096


class Board:
    """Queues by requirement and kinds of workers by offer, linked wherever they match."""

    def __init__(self) -> None:
        self.queues: dict[Requirement, RequirementQueue] = {}
        self.kinds: dict[Offer, Kind] = {}
        self._executing: dict[str, int] = {}
        self._served: dict[str, int] = {}
        self._clock = 0

    def offers(self) -> list[Offer]:
        """What the known kinds of workers offer."""
        return list(self.kinds)

    def queue_for(self, requirement: Requirement) -> RequirementQueue:
        """The queue of a requirement, made and linked on first use."""
        queue = self.queues.get(requirement)
        if queue is None:
            queue = self.queues[requirement] = RequirementQueue()
            for kind in self.kinds.values():
                _link_if_match(requirement, queue, kind)
        return queue

    def kind_for(self, offer: Offer) -> Kind:
        """The kind of an offer, made and linked on first use."""
        kind = self.kinds.get(offer)
        if kind is None:
            kind = self.kinds[offer] = Kind(offer=offer)
            for requirement, queue in self.queues.items():
                _link_if_match(requirement, queue, kind)
        return kind

    def forget_kind(self, kind: Kind) -> None:
        """Drop a kind without workers."""
        del self.kinds[kind.offer]
        for queue in kind.queues.values():
            queue.kinds.remove(kind)

    def forget_if_empty(self, requirement: Requirement) -> bool:
        """Drop the queue of a requirement when nothing is in it; says whether it is gone."""
        queue = self.queues.get(requirement)
        if queue is None:
            return True
        if len(queue):
            return False
        for kind in queue.kinds:
            del kind.queues[requirement]
        del self.queues[requirement]
        return True

    def free_worker(self, execution: Execution) -> Worker | None:
        """A waiting worker for the execution: the latest to wait, rather not its former one."""
        fallback: Worker | None = None
        for kind in self.queue_for(execution.requirement).kinds:
            for worker in reversed(kind.waiting.values()):
                if worker.name != execution.worker:
                    return worker
                fallback = worker
        return fallback

    def take_for(self, kind: Kind) -> Execution | None:
        """The execution that the next free worker of this kind should run, off its queue."""
        heads: dict[fairness.Candidate, tuple[Requirement, Lane]] = {}
        for requirement in kind.queues:
            queue = kind.queues[requirement]
            for candidate, lane in queue.candidates(self._executing, self._served):
                heads[candidate] = requirement, lane
        chosen = fairness.first(heads)
        if chosen is None:
            return None
        requirement, lane = heads[chosen]
        return kind.queues[requirement].take(lane)

    def started(self, invocation: str) -> None:
        """Count an execution of the invocation that a worker has taken."""
        self._clock += 1
        self._executing[invocation] = self._executing.get(invocation, 0) + 1
        self._served.pop(invocation, None)
        self._served[invocation] = self._clock
        if len(self._served) > _MAX_REMEMBERED_INVOCATIONS:
            del self._served[next(iter(self._served))]

    def ended(self, invocation: str) -> None:
        """The counterpart of `started`."""
        left = self._executing[invocation] - 1
        if left:
            self._executing[invocation] = left
        else:
            del self._executing[invocation]


def _link_if_match(requirement: Requirement, queue: RequirementQueue, kind: Kind) -> None:
    if matching.matches(requirement, kind.offer):
        queue.kinds.append(kind)
        kind.queues[requirement] = queue
