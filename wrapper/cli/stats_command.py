"""`cargo distbuild stats`, and the line at the end of a build."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from wrapper.home import Home
from wrapper.stats import last_build, summary


def show_stats(home: Home, arguments: Sequence[str]) -> int:
    """Print the last build's statistics, as a table or as JSON."""
    if any(argument != "--json" for argument in arguments):
        print("error: distbuild: stats takes no option but --json", file=sys.stderr)
        return 2
    build = last_build(home)
    data = summary(home, build) if build else None
    if data is None:
        print("error: distbuild: no build has been recorded yet", file=sys.stderr)
        return 1
    print(json.dumps(data, indent=2) if arguments else table(data))
    return 0


def print_summary(home: Home, build: str) -> None:
    """One line on stderr; none when cargo had nothing to compile."""
    data = summary(home, build)
    if data["units"]:
        print(f"   Distbuild {totals_line(data['totals'])}", file=sys.stderr)


def totals_line(totals: dict[str, Any]) -> str:
    """`12 units: 10 hits (8 local, 2 from the server), 1 on workers, 1 compiled here`."""
    local, remote = totals["hit-local"], totals["hit-remote"]
    return (
        f"{totals['units']} units: {local + remote} hits ({local} local, {remote} from the "
        f"server), {totals['remote']} on workers, {totals['local']} compiled here"
    )


def table(data: dict[str, Any]) -> str:
    """Unit, where it came from, seconds, and why it was compiled here."""
    rows = [("unit", "kind", "from", "seconds", "why here")]
    for unit in data["units"]:
        where = unit["worker"] if unit["outcome"] == "remote" else unit["outcome"]
        seconds = f"{unit['seconds']:.2f}"
        rows.append((unit["crate"], unit["kind"], where, seconds, unit["reason"] or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", totals_line(data["totals"])])
