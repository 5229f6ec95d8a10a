"""Deadlines by key: set, cleared and taken when due, each in logarithmic time."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64


class Deadlines(Generic[K]):
    """At most one deadline a key. Cleared entries leave the heap when they are a quarter more.

    Keys of one kind must be comparable: of equal deadlines the lesser key's is taken first.
    """

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: K) -> bool:
        return key in self._at

    def set(self, key: K, at: float) -> None:
        """Set or move the deadline of `key`."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 1.25 * len(self._at) + _SLACK:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def clear(self, key: K) -> None:
        """Forget the deadline of `key`, if it has one."""
        self._at.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap:
            at, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def take_due(self, now: float) -> list[K]:
        """Clear and return the keys whose deadline is `now` or earlier, earliest first."""
        due: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                due.append(key)
        return due
