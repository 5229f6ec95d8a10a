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


def test_a_deadline_that_keeps_moving_takes_no_memory() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for at in range(10_000):
        deadlines.set("worker", float(at))
    assert len(deadlines._heap) < 200
