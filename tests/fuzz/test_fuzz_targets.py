"""Each fuzz target stands some hundred inputs: noise, and a right input changed here and there."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS


def changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Cut out so many bytes at a place and put others there."""
    for place, length, new in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + length :]
    return data


changes = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 5), st.binary(max_size=5)), max_size=4
)


def test_every_target_has_a_seed() -> None:
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    seeded = changes.map(lambda each: changed(SEEDS[name], each))

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(seeded, st.binary(max_size=200)))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    TARGETS[name](SEEDS[name])
    run()
