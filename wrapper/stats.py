"""Statistics of builds: one JSON line a unit, one file a build, the newest file the last build."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wrapper.home import Home

OUTCOMES = ("hit-local", "hit-remote", "remote", "local")
KEPT_BUILDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStat:
    """How one unit went. `worker` only where one compiled it, `reason` only where none did."""

    crate: str
    kind: str
    outcome: str
    worker: str | None
    reason: str | None
    seconds: float


def build_file(home: Home, build: str) -> Path:
    """The file of a build by its id (letters, digits, `-`)."""
    return home.builds / f"{build}.jsonl"


def start_build(home: Home, build: str) -> None:
    """Make a build the last one, even if no unit is compiled in it; forget the oldest."""
    home.builds.mkdir(parents=True, exist_ok=True)
    build_file(home, build).touch()
    for _, old in _by_age(home)[:-KEPT_BUILDS]:
        old.unlink(missing_ok=True)


def add_unit(home: Home, build: str, unit: UnitStat) -> None:
    """Append a unit to its build."""
    path = build_file(home, build)
    if not path.exists():
        start_build(home, build)
    line = json.dumps({**asdict(unit), "seconds": round(unit.seconds, 4)}) + "\n"
    # one write in append mode: lines of parallel units do not mix
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def last_build(home: Home) -> str | None:
    """The id of the newest build, or None."""
    files = _by_age(home)
    return files[-1][1].stem if files else None


def _by_age(home: Home) -> list[tuple[int, Path]]:
    """Files of builds, oldest first; others may be removing some at this moment."""
    found = []
    for path in home.builds.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    return sorted(found)


def summary(home: Home, build: str) -> dict[str, Any]:
    """`{"units": [...], "totals": {...}}` of a build; totals count outcomes and sum seconds."""
    units = [json.loads(line) for line in build_file(home, build).read_text().splitlines()]
    counts = Counter(unit["outcome"] for unit in units)
    totals: dict[str, Any] = {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}
    totals["units"] = len(units)
    totals["seconds"] = round(sum(unit["seconds"] for unit in units), 4)
    return {"units": units, "totals": totals}


def new_build_id() -> str:
    """An id for a build that starts now in this process."""
    return f"{time.time_ns()}-{os.getpid()}"
