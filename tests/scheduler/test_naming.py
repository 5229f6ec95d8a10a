"""Names and stamps."""

from __future__ import annotations

import itertools

from server.scheduler.naming import Naming


class JumpyClock:
    """A wall clock that somebody keeps setting."""

    def __init__(self) -> None:
        self.now = 2_000_000_000_000_000_123

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> int:
        return self.now


def test_stamps_grow_even_when_the_clock_goes_back() -> None:
    clock = JumpyClock()
    naming = Naming(clock, lambda: "id")
    stamps = [naming.stamp(), naming.stamp()]
    clock.now -= 10**15
    stamps += [naming.stamp(), naming.stamp()]
    clock.now += 10**16
    stamps.append(naming.stamp())
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))
    assert all(stamp % 1000 == 0 for stamp in stamps)


def test_stamps_from_before_a_restart_are_not_given_out_again() -> None:
    clock = JumpyClock()
    naming = Naming(clock, lambda: "id")
    naming.seen(clock.now + 10**15)
    assert naming.stamp() > clock.now + 10**15


def test_names() -> None:
    naming = Naming(JumpyClock(), lambda: "id")
    assert naming.name("") == "operations/id"
    assert naming.name("team/a") == "team/a/operations/id"
