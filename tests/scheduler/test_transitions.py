"""The transition table, and the diagram that is made of it."""

from __future__ import annotations

from pathlib import Path

from server.scheduler.diagram import mermaid, refreshed
from server.scheduler.transitions import STAGES, TABLE, Persistence, State

DOCUMENT = Path(__file__).parents[2] / "docs" / "scheduler.md"


def test_the_document_shows_the_table_as_it_is() -> None:
    text = DOCUMENT.read_text()
    assert text == refreshed(text), "run python -m server.scheduler.diagram docs/scheduler.md"


def test_every_row_is_an_arrow() -> None:
    assert mermaid().count("-->") == len(TABLE)


def test_every_state_is_reached_and_left() -> None:
    reached = {transition.to for transition in TABLE.values()}
    left = {state for state, _ in TABLE}
    assert reached == set(State) - {State.NEW}
    assert left == set(State) - {State.GONE}


def test_a_response_is_only_shown_once_it_is_durable() -> None:
    for (state, _), transition in TABLE.items():
        if transition.to is State.DONE and state is not State.NEW:
            assert state is State.RECORDING
        if transition.to is State.RECORDING:
            assert transition.persistence is Persistence.FINAL
            assert not transition.publish


def test_every_state_that_lasts_has_a_stage() -> None:
    assert set(STAGES) == set(State) - {State.NEW, State.GONE}
