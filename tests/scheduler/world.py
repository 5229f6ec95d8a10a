"""Virtual time, chance and the description of a simulated world."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from server.scheduler.settings import SchedulerSettings

RPC_TIMEOUT = 40.0


class Violated(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the simulated world is like. Rates are probabilities, times seconds."""

    workers: int = 6
    clients: int = 60
    actions: int = 40
    """Fewer than clients, so that some ask for the same."""
    invocations: tuple[int, ...] = (1, 1, 1)
    """How many there are, by how many clients each has in comparison."""
    priorities: tuple[int, ...] = (0, 0, 0, 1, -1)
    do_not_cache: float = 0.1
    run_time: tuple[float, float] = (0.05, 60.0)
    arrivals_within: float = 120.0
    faults_until: float = 300.0
    lost_message: float = 0.05
    broken_stream: float = 0.1
    worker_deaths: int = 6
    worker_pauses: int = 4
    worker_drains: int = 4
    """How often somebody drains a worker, and resumes it up to a minute later."""
    worker_faults: float = 0.05
    restarts: int = 3
    clock_jumps: int = 2
    refused_results: float = 0.03
    cancelled: float = 0.05
    check_every: int = 1
    """The whole state of the core is checked after every so many events."""
    settings: SchedulerSettings = field(
        default_factory=lambda: SchedulerSettings(no_match_grace=60.0, no_worker_grace=60.0)
    )


class World:
    """An agenda of things to happen, in virtual seconds."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(seed)
        self.now = 0.0
        self._wall_offset = 1_800_000_000.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = 0
        self._stamp = 0

    def unique(self) -> int:
        """A number never given before."""
        self._counter += 1
        return self._counter

    def stamp(self) -> int:
        """The wall clock as the driver gives it out: never the same twice."""
        self._stamp = max(self._stamp + 1000, int((self._wall_offset + self.now) * 1e9))
        return self._stamp

    def jump_wall_clock(self) -> None:
        """Somebody sets the clock."""
        self._wall_offset += self.random.uniform(-1e6, 1e6)

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """Have something happen later."""
        heapq.heappush(self._agenda, (self.now + delay, self.unique(), act))

    def soon(self, act: Callable[[], None]) -> None:
        """Have something happen after the time that a message or a write takes."""
        self.after(self.random.uniform(0.0005, 0.02), act)

    def happens(self, rate: float) -> bool:
        """Whether a fault strikes; later on none do, so that the world can come to rest."""
        return self.now < self.plan.faults_until and self.random.random() < rate

    def step(self) -> bool:
        """Let the next thing happen; False when there is none."""
        if not self._agenda:
            return False
        self.now, _, act = heapq.heappop(self._agenda)
        act()
        return True
