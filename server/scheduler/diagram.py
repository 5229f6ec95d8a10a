"""Draws the transition table as a mermaid state diagram for docs/scheduler.md."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from server.scheduler.transitions import TABLE, State, Transition, Trigger

BEGIN = "<!-- states: made by server.scheduler.diagram, do not edit -->"
END = "<!-- end of states -->"


def mermaid(table: Mapping[tuple[State, Trigger], Transition] = TABLE) -> str:
    """The table as a fenced mermaid diagram, one arrow a row."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (state, trigger), transition in table.items():
        lines.append(f"    {_node(state)} --> {_node(transition.to)}: {trigger.value}")
    return "\n".join([*lines, "```"])


def refreshed(document: str) -> str:
    """The document with the diagram between its two markers replaced by the current one.

    Raises ValueError when it lacks the markers.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN!r} … {END!r}")
    return f"{before}{BEGIN}\n\n{mermaid()}\n\n{END}{after}"


def _node(state: State) -> str:
    return "[*]" if state in (State.NEW, State.GONE) else state.name.capitalize()


def main() -> None:
    """Bring the diagram in the document named on the command line up to date."""
    document = Path(sys.argv[1])
    document.write_text(refreshed(document.read_text()))


if __name__ == "__main__":
    main()
