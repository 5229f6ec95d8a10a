"""Policy: whose action goes first.

Priority decides before everything else (lower is sooner, REAPI 2.12 ExecutionPolicy). Among equal
priorities the invocation with the fewest actions at workers is next, so that each gets the same
share of the pool however much it has queued; among equals the one that was served longest ago.
Within an invocation actions go in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Candidate(NamedTuple):
    """The first queued action of one invocation, at one priority; compared field by field."""

    priority: int
    executing: int
    """How many actions of the invocation are at workers now."""
    served: int
    """Grows with every lease; that of the invocation's latest one."""
    position: int
    """Its place in the order of requests."""


def first(candidates: Iterable[Candidate]) -> Candidate | None:
    """The one that the next free worker gets, or None when there is none."""
    return min(candidates, default=None)
