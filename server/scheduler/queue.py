"""Queued executions of one requirement, by priority and invocation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from server.scheduler.fairness import Candidate
from server.scheduler.transitions import State

if TYPE_CHECKING:
    from server.scheduler.state import Execution, Kind

_SLACK = 64
Lane = deque["Execution"]


class RequirementQueue:
    """First come, first served within each lane of (priority, invocation).

    An execution that leaves other than through `take` stays in its lane as a dead entry until it
    comes to the front or the dead outnumber the living: that keeps an entry at one pointer.
    """

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        """The kinds of workers that match."""
        self._lanes: dict[int, dict[str, Lane]] = {}
        self._entries = 0
        self._living = 0

    def __len__(self) -> int:
        return self._living

    def __iter__(self) -> Iterator[Execution]:
        seen: set[int] = set()
        for priority, lanes in self._lanes.items():
            for lane in lanes.values():
                for execution in lane:
                    if _is_alive(execution, priority) and execution.number not in seen:
                        seen.add(execution.number)
                        yield execution

    def push(self, execution: Execution, *, at_front: bool) -> None:
        """Add a queued execution; at the front if it had been taken before."""
        lanes = self._lanes.setdefault(execution.priority, {})
        lane = lanes.setdefault(execution.spec.invocation, deque())
        if at_front:
            lane.appendleft(execution)
        else:
            lane.append(execution)
        self._entries += 1
        self._living += 1

    def discard(self) -> None:
        """Take note that one execution is not queued any more, or at another priority."""
        self._living -= 1
        if self._entries > 2 * self._living + _SLACK:
            self._compact()

    def candidates(
        self, executing: Mapping[str, int], served: Mapping[str, int]
    ) -> Iterator[tuple[Candidate, Lane]]:
        """The head of each lane of the most urgent priority, as fairness.py compares them."""
        while self._lanes:
            priority = min(self._lanes)
            lanes = self._lanes[priority]
            for invocation in list(lanes):
                lane = lanes[invocation]
                if not self._strip(lane, priority):
                    del lanes[invocation]
                    continue
                yield (
                    Candidate(
                        priority,
                        executing.get(invocation, 0),
                        served.get(invocation, 0),
                        lane[0].number,
                    ),
                    lane,
                )
            if lanes:
                return
            del self._lanes[priority]

    def take(self, lane: Lane) -> Execution:
        """Remove and return the head of a lane that `candidates` named."""
        self._entries -= 1
        self._living -= 1
        return lane.popleft()

    def _strip(self, lane: Lane, priority: int) -> bool:
        while lane and not _is_alive(lane[0], priority):
            lane.popleft()
            self._entries -= 1
        return bool(lane)

    def _compact(self) -> None:
        living = list(self)
        self._lanes.clear()
        self._entries = self._living = 0
        for execution in living:
            self.push(execution, at_front=False)


def _is_alive(execution: Execution, priority: int) -> bool:
    return execution.state is State.QUEUED and execution.priority == priority
