"""What came out: medians, how they stand to the aims, and the tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bench.wrapper.processes import Cost

OURS = ("distbuild", "wrapper")
"""`cargo distbuild`, and cargo with RUSTC_WRAPPER."""

PRIMED = ", primed"
"""Ends the names of scenarios that begin with a running daemon."""

Rows = Mapping[tuple[str, str], Mapping[str, "Summary"]]
"""Summaries by (workspace, scenario) and tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Medians of the builds of one tool; seconds."""

    wall: float
    user: float
    system: float
    builds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What ours should be, beside another tool: at most `most` times its figure, or at most `most`
    seconds more where `is_difference`."""

    beside: str
    figure: Literal["wall", "user"]
    most: float
    is_difference: bool = False

    def value(self, ours: Summary, theirs: Summary) -> float:
        """How ours stands to the other's."""
        a, b = (x.wall if self.figure == "wall" else x.user for x in (ours, theirs))
        return a - b if self.is_difference else a / b

    def text(self, value: float) -> str:
        """A value or the aim in words."""
        if self.is_difference:
            return f"{value * 1000:+.0f} ms"
        return f"{value:.2f}"


AIMS = {
    "cold": Aim(beside="cargo", figure="user", most=1.03),
    "warm": Aim(beside="kache", figure="wall", most=0.8),
    "idle": Aim(beside="cargo", figure="wall", most=0.020, is_difference=True),
    "leaf": Aim(beside="cargo", figure="wall", most=1.05),
    "base": Aim(beside="cargo", figure="wall", most=1.05),
    "elsewhere": Aim(beside="kache", figure="wall", most=0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An aim and where ours is; `value` None when the other tool was not measured."""

    aim: Aim
    value: float | None

    @property
    def is_missed(self) -> bool:
        """Whether it is known to be missed."""
        return self.value is not None and self.value > self.aim.most

    def text(self) -> str:
        """Such as `wall 0.61 of kache's (aim 0.80)`."""
        aim = self.aim
        if self.value is None:
            return f"{aim.beside} was not measured"
        of = "over" if aim.is_difference else "of"
        missed = "  MISSED" if self.is_missed else ""
        return (
            f"{aim.figure} {aim.text(self.value)} {of} {aim.beside}'s "
            f"(aim {aim.text(aim.most)}){missed}"
        )


def summarize(costs: Sequence[Cost]) -> Summary:
    """Medians. At least one cost."""
    return Summary(
        wall=statistics.median(c.wall for c in costs),
        user=statistics.median(c.user for c in costs),
        system=statistics.median(c.system for c in costs),
        builds=len(costs),
    )


def verdicts(scenario: str, row: Mapping[str, Summary]) -> dict[str, Verdict]:
    """How each of ours that was measured stands in a scenario."""
    aim = AIMS[scenario.removesuffix(PRIMED)]
    theirs = row.get(aim.beside)
    return {
        name: Verdict(aim=aim, value=aim.value(row[name], theirs) if theirs else None)
        for name in OURS
        if name in row
    }


def table(rows: Rows) -> Iterator[str]:
    """Lines for a terminal."""
    for (workspace, scenario), row in rows.items():
        yield f"{workspace}, {scenario}"
        for tool, summary in row.items():
            yield (
                f"  {tool:10} {summary.wall:8.3f} s wall {summary.user:8.3f} s user "
                f"{summary.system:8.3f} s system  (median of {summary.builds})"
            )
        for name, judged in verdicts(scenario, row).items():
            yield f"  {'':10} {name}: {judged.text()}"


def markdown(rows: Rows, about: str) -> Iterator[str]:
    """Lines for a page: wall and user seconds of each tool, and how ours stands to the aim."""
    tools = list(dict.fromkeys(tool for row in rows.values() for tool in row))
    yield f"{about}. Seconds, wall / user CPU."
    yield ""
    yield "| workspace | scenario | " + " | ".join(tools) + " | ours |"
    yield "|---|---|" + "---|" * (len(tools) + 1)
    for (workspace, scenario), row in rows.items():
        cells = [_cell(row.get(tool)) for tool in tools]
        judged = verdicts(scenario, row).items()
        cells.append("; ".join(f"{name}: {each.text()}" for name, each in judged))
        yield f"| {workspace} | {scenario} | " + " | ".join(cells) + " |"


def _cell(summary: Summary | None) -> str:
    return f"{summary.wall:.2f} / {summary.user:.2f}" if summary else "-"


def keep(path: Path, rows: Rows, about: str) -> None:
    """Write results to a file, over those of the same name from before."""
    kept = dict(load(path)[0]) if path.exists() else {}
    for key, row in rows.items():
        kept[key] = {**kept.get(key, {}), **row}
    data = {
        "about": about,
        "rows": [
            {"workspace": w, "scenario": s, "tools": {t: _rounded(x) for t, x in row.items()}}
            for (w, s), row in kept.items()
        ],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")


def load(path: Path) -> tuple[Rows, str]:
    """Results kept by `keep`, and what it says about them."""
    data = json.loads(path.read_text())
    rows = {
        (row["workspace"], row["scenario"]): {t: Summary(**x) for t, x in row["tools"].items()}
        for row in data["rows"]
    }
    return rows, data["about"]


def _rounded(summary: Summary) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(summary).items()}
