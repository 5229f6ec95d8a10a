"""Deadlines against a dictionary that does the same slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.scheduler.deadlines import Deadlines

_KEYS = st.sampled_from("abcdef")
_TIMES = st.integers(min_value=0, max_value=20).map(float)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _KEYS, _TIMES),
        st.tuples(st.just("clear"), _KEYS, st.just(0.0)),
        st.tuples(st.just("take"), st.just(""), _TIMES),
    ),
    max_size=400,
)


@given(steps=_STEPS)
def test_it_behaves_like_a_dictionary(steps: list[tuple[str, str, float]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, float] = {}
    for step, key, at in steps:
        if step == "set":
            deadlines.set(key, at)
            model[key] = at
        elif step == "clear":
            deadlines.clear(key)
            model.pop(key, None)
        else:
            due = deadlines.take_due(at)
            assert [model[key] for key in due] == sorted(model[key] for key in due)
            assert set(due) == {key for key, when in model.items() if when <= at}
            for key in due:
                del model[key]
        assert deadlines.next() == min(model.values(), default=None)
        assert len(deadlines) == len(model)
        assert all(key in deadlines for key in model)


def test_coarse_deadlines_are_at_most_a_second_late() -> None:
    deadlines: Deadlines[str] = Deadlines(coarse=True)
    for key, at in (("a", 3.2), ("b", 3.9), ("c", 4.0), ("d", 4.1)):
        deadlines.set(key, at)
    assert deadlines.next() == 4.0
    assert deadlines.take_due(3.99) == []
    assert deadlines.take_due(4.0) == ["a", "b", "c"]
    assert deadlines.next() == 5.0


def test_a_deadline_that_keeps_moving_takes_no_memory() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for at in range(10_000):
        deadlines.set("worker", float(at))
    assert len(deadlines._times) < 200


def test_keys_that_come_and_go_take_no_memory() -> None:
    deadlines: Deadlines[int] = Deadlines(coarse=True)
    for key in range(10_000):
        deadlines.set(key, 7.0)
        deadlines.clear(key)
    assert sum(len(keys) for keys in deadlines._keys.values()) < 200
    assert deadlines.next() is None
