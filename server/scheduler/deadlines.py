"""Deadlines by key: set, cleared and taken when due, each in logarithmic time."""

from __future__ import annotations

import heapq
import math
from typing import Any, Generic, Protocol, TypeVar


class Key(Protocol):
    """What can be in a dictionary, and has an order."""

    def __hash__(self) -> int: ...

    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=Key)

_SLACK = 64


class Deadlines(Generic[K]):
    """At most one deadline a key. Cleared entries leave when they are a quarter more.

    Keys of one kind must be comparable: of equal deadlines the lesser key's is taken first.
    """

    def __init__(self, *, coarse: bool = False) -> None:
        """`coarse`: deadlines may be up to a second late, and take a third of the memory."""
        self._is_coarse = coarse
        self._latest = 0.0
        self._at: dict[K, float] = {}
        self._start_anew()

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: K) -> bool:
        return key in self._at

    def set(self, key: K, at: float) -> None:
        """Set or move the deadline of `key`."""
        if self._is_coarse:
            if self._latest != math.ceil(at):
                self._latest = float(math.ceil(at))
            at = self._latest
        self._at[key] = at
        self._add(key, at)
        if self._entries > 1.25 * len(self._at) + _SLACK:
            self._start_anew()

    def clear(self, key: K) -> None:
        """Forget the deadline of `key`, if it has one."""
        self._at.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._times:
            keys = self._keys[self._times[0]]
            while keys:
                if self._at.get(keys[-1]) == self._times[0]:
                    return self._times[0]
                keys.pop()
                self._entries -= 1
            del self._keys[heapq.heappop(self._times)]
        return None

    def take_due(self, now: float) -> list[K]:
        """Clear and return the keys whose deadline is `now` or earlier, earliest first."""
        due: list[K] = []
        while self._times and self._times[0] <= now:
            at = heapq.heappop(self._times)
            keys = self._keys.pop(at)
            self._entries -= len(keys)
            for key in sorted(keys):
                if self._at.get(key) == at:
                    del self._at[key]
                    due.append(key)
        return due

    def _add(self, key: K, at: float) -> None:
        keys = self._keys.get(at)
        if keys is None:
            heapq.heappush(self._times, at)
            keys = self._keys[at] = []
        keys.append(key)
        self._entries += 1

    def _start_anew(self) -> None:
        self._times: list[float] = []
        self._keys: dict[float, list[K]] = {}
        self._entries = 0
        for key, at in self._at.items():
            self._add(key, at)
