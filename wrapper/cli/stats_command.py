"""`cargo distbuild stats` and `timings`, and the line at the end of a build."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wrapper.home import Home
from wrapper.stats import last_build, summary
from wrapper.wording import columns, totals_line

_USAGE = "usage: cargo distbuild stats [--json | --html FILE], cargo distbuild timings [FILE]"
_REASONS = {
    "reasons": "reasons for compiling here", "run_reasons": "reasons for running build scripts"
}  # fmt: skip
TIMINGS_FILE = "distbuild-timings.html"


def show_stats(home: Home, arguments: Sequence[str]) -> int:
    """Print the last build's statistics, as a table or as JSON, or write them as a page."""
    if arguments[:1] == ["--html"] and len(arguments) == 2:
        return write_timings(home, arguments[1:])
    if list(arguments) not in ([], ["--json"]):
        print(f"error: distbuild: {_USAGE}", file=sys.stderr)
        return 2
    data = _last(home)
    if data is None:
        return 1
    print(json.dumps(data, indent=2) if arguments else table(data))
    return 0


def write_timings(home: Home, arguments: Sequence[str]) -> int:
    """Write the last build's page to a file, `distbuild-timings.html` unless one is named."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print(f"error: distbuild: {_USAGE}", file=sys.stderr)
        return 2
    data = _last(home)
    if data is None:
        return 1
    from wrapper.timings import page

    path = Path(arguments[0] if arguments else TIMINGS_FILE)
    path.write_text(page(data), encoding="utf-8")
    print(path)
    return 0


def _last(home: Home) -> dict[str, Any] | None:
    build = last_build(home)
    if build is None:
        print("error: distbuild: no build has been recorded yet", file=sys.stderr)
        return None
    return summary(home, build)


def print_summary(home: Home, build: str) -> None:
    """One line on stderr; none when cargo had nothing to compile."""
    data = summary(home, build)
    if data["units"]:
        print(f"   Distbuild {totals_line(data['totals'])}", file=sys.stderr)


def table(data: dict[str, Any]) -> str:
    """Unit, where it came from, seconds, and why it was compiled here; the same of build scripts'
    runs; reasons; the totals."""
    rows = [("unit", "kind", "from", "seconds", "saved", "why here")]
    for unit in [*data["units"], *data["runs"]]:
        where = unit["worker"] if unit["outcome"] == "remote" else unit["outcome"]
        made_in = unit.get("made_in")
        saved = "" if made_in is None else f"{made_in - unit['seconds']:.2f}"
        seconds = f"{unit['seconds']:.2f}"
        rows.append((unit["crate"], unit["kind"], where, seconds, saved, unit["reason"] or ""))
    parts = [columns(rows)]
    for name, title in _REASONS.items():
        if data[name]:
            counted = [(str(count), reason) for reason, count in data[name].items()]
            parts.append(f"{title}\n{columns(counted)}")
    return "\n\n".join([*parts, totals_line(data["totals"])])
