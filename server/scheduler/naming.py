"""Names of operations, and the stamps that tell executions of equal actions apart."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from server.scheduler.ports import Clock


def random_id() -> str:
    """The last part of an operation's name."""
    return str(uuid.uuid4())


class Naming:
    """Gives out what must never be the same twice."""

    def __init__(self, clock: Clock, new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._new_id = new_id
        self._latest = 0

    def name(self, instance: str) -> str:
        """`[instance/]operations/id`."""
        return f"{instance}/operations/{self._new_id()}".lstrip("/")

    def stamp(self) -> int:
        """The wall clock in nanoseconds, or a little more if it was given out before.

        In whole microseconds, so that it survives a worker that keeps no more digits.
        """
        self._latest = max(self._latest + 1000, self._clock.wall() // 1000 * 1000)
        return self._latest

    def seen(self, stamp: int) -> None:
        """A stamp from before a restart."""
        self._latest = max(self._latest, stamp)
