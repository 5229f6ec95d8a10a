"""Statistics of builds: one JSON line a unit, one file a build, the newest file the last build."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrapper.home import RETRIED_SECONDS, Home
from wrapper.wording import BUILT_ELSEWHERE

if TYPE_CHECKING:
    # the commands that read statistics start without it
    from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

OUTCOMES = ("hit-local", "hit-remote", "remote", "local")
HITS = ("hit-local", "hit-remote")
SCRIPT_RUN = "script-run"
"""The kind of a build script's run, which is no unit and counts by itself."""

KEPT_BUILDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStat:
    """How one unit went. `worker` only where one compiled it, `reason` only where none did.

    `started` is seconds since the epoch; `made_in` the seconds that rustc took when a hit's result
    was made, None where the result does not say; bytes are those of blobs, before compression;
    `executions` says how often a worker was asked.
    """

    crate: str
    kind: str
    outcome: str
    worker: str | None
    reason: str | None
    seconds: float
    started: float = 0.0
    made_in: float | None = None
    downloaded: int = 0
    uploaded: int = 0
    executions: int = 0


def build_file(home: Home, build: str) -> Path:
    """The file of a build by its id (letters, digits, `-`)."""
    return home.builds / f"{build}.jsonl"


def start_build(home: Home, build: str) -> None:
    """Make a build the last one, even if no unit is compiled in it."""
    home.builds.mkdir(parents=True, exist_ok=True)
    build_file(home, build).touch()


def was_without_daemon(home: Home, build: str) -> bool:
    """Whether the daemon could not be started since the build began, or so short before that
    nobody has tried again."""
    began, _, _ = build.partition("-")
    with contextlib.suppress(FileNotFoundError):
        return home.daemon_failed.stat().st_mtime_ns > int(began) - RETRIED_SECONDS * 10**9
    return False


def forget_old_builds(home: Home) -> None:
    """Keep the newest builds only."""
    for _, old in _by_age(home)[:-KEPT_BUILDS]:
        old.unlink(missing_ok=True)
        old.with_suffix(".line").unlink(missing_ok=True)


def add_unit(home: Home, build: str, unit: UnitStat) -> dict[str, Any]:
    """Append a unit to its build; returns its line."""
    made_in = None if unit.made_in is None else round(unit.made_in, 4)
    rounded = {"seconds": round(unit.seconds, 4), "started": round(unit.started, 4)}
    line = {**asdict(unit), **rounded, "made_in": made_in}
    _append(home, build, line)
    return line


def add_execution(home: Home, build: str, crate: str) -> None:
    """Note that a worker has been asked for a unit of the crate, which will be added later."""
    _append(home, build, {"executing": crate})


def add_not_kept(home: Home, build: str, unit: UnitStat, reason: str) -> None:
    """Note why the result of something that was added is not kept, when that turns out later."""
    _append(home, build, {**_name(asdict(unit)), "not_kept": reason}, is_late=True)


def _name(unit: Mapping[str, Any]) -> dict[str, Any]:
    """What tells it apart from all others of a build."""
    return {
        "crate": unit["crate"], "kind": unit["kind"], "started": round(unit["started"], 4)
    }  # fmt: skip


def add_upload(home: Home, build: str, uploaded: int) -> None:
    """Note bytes that a build uploaded after the unit that they belong to was added."""
    _append(home, build, {"uploaded": uploaded}, is_late=True)


def add_download(home: Home, build: str, downloaded: int) -> dict[str, Any]:
    """Note bytes that a build fetched before their units were asked for; returns the line."""
    line = {"downloaded": downloaded}
    _append(home, build, line)
    return line


def _append(home: Home, build: str, line: Mapping[str, Any], *, is_late: bool = False) -> None:
    path = build_file(home, build)
    if not path.exists():
        start_build(home, build)
    # one write in append mode: lines of parallel units do not mix
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(fd)
        data = (json.dumps(line) + "\n").encode()
        if os.write(fd, data) < len(data):
            with contextlib.suppress(OSError):
                os.write(fd, b"\n")  # the next one does not go on where the disk was full
        if is_late:  # another build may have begun since, and is the last one
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(fd)


def forget_empty(home: Home, build: str) -> bool:
    """Forget a build if nothing was compiled in it."""
    path = build_file(home, build)
    is_empty = path.exists() and path.stat().st_size == 0
    if is_empty:
        path.unlink(missing_ok=True)
    return is_empty


def last_build(home: Home) -> str | None:
    """The id of the newest build, or None."""
    files = _by_age(home)
    return files[-1][1].stem if files else None


def _by_age(home: Home) -> list[tuple[int, Path]]:
    """Files of builds, oldest first; others may be removing some at this moment."""
    found = []
    for path in home.builds.glob("*.jsonl"):
        # an id of ours begins with when the build did; a file is still written to afterwards
        begun = path.name.partition("-")[0]
        with contextlib.suppress(FileNotFoundError):
            found.append((int(begun) if begun.isdigit() else path.stat().st_mtime_ns, path))
    return sorted(found)


def summary(home: Home, build: str) -> dict[str, Any]:
    """`{"units": […], "runs": […], "totals": {…}, "reasons": {…}, "run_reasons": {…}}`.

    `runs` are those of build scripts, in the form of units. A reason why a result is not kept takes
    the place of the one why it was not known.

    `totals` counts outcomes and sums seconds and bytes; `saved` in it is, over all hits whose
    result says it, what rustc took when the result was made, less what the hit took. `reasons`
    counts the units compiled here by reason, the most frequent first; `run_reasons` the runs.
    """
    lines = _whole_lines(build_file(home, build).read_text())
    ended = [line for line in lines if "outcome" in line]
    for line in (line for line in lines if "not_kept" in line):
        for unit in (unit for unit in ended if _name(unit) == _name(line)):
            unit["reason"] = line["not_kept"]
    units = [line for line in ended if line["kind"] != SCRIPT_RUN]
    totals = Totals()
    for line in lines:
        totals.add(line)
    runs = [line for line in ended if line["kind"] == SCRIPT_RUN]
    return {
        "units": units,
        "runs": runs,
        "totals": totals.rounded(),
        "reasons": _reasons(units),
        "run_reasons": _reasons(runs),
    }


def _whole_lines(text: str) -> list[dict[str, Any]]:
    """What was noted; a line that a full disk has cut short is left out."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def _reasons(units: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(unit["reason"] for unit in units if unit["reason"]).most_common())


class Totals:
    """The `totals` of a summary, line by line."""

    def __init__(self) -> None:
        names = (*OUTCOMES, "units", "runs", "run_hits", "elsewhere")
        self._sums: dict[str, Any] = dict.fromkeys(names, 0)
        self._sums |= {"seconds": 0.0, "saved": 0.0, "downloaded": 0, "uploaded": 0}

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of a build's file."""
        for name in ("downloaded", "uploaded"):
            self._sums[name] += line.get(name, 0)
        if "outcome" in line:
            if line["kind"] == SCRIPT_RUN:
                self._sums["runs"] += 1
                self._sums["run_hits"] += line["outcome"] in HITS
            else:
                self._sums[line["outcome"]] += 1
                self._sums["units"] += 1
                self._sums["elsewhere"] += BUILT_ELSEWHERE in (line["reason"] or "")
            self._sums["seconds"] += line["seconds"]
            self._sums["saved"] += _saved(line)

    def rounded(self) -> dict[str, Any]:
        """As they are shown."""
        return {name: round(value, 4) for name, value in self._sums.items()}


def _saved(unit: Mapping[str, Any]) -> float:
    made_in = unit.get("made_in")
    if unit["outcome"] not in HITS or made_in is None:
        return 0.0
    return float(made_in) - float(unit["seconds"])


def made_in_seconds(result: re_pb.ActionResult) -> float | None:
    """What the execution took when the result was made, where the result says it."""
    metadata = result.execution_metadata
    start, end = metadata.execution_start_timestamp, metadata.execution_completed_timestamp
    nanoseconds = end.ToNanoseconds() - start.ToNanoseconds()
    return nanoseconds / 1e9 if start.ToNanoseconds() and nanoseconds > 0 else None


def new_build_id() -> str:
    """An id for a build that starts now in this process."""
    return f"{time.time_ns()}-{os.getpid()}"
