"""Figures, printed beside those of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `higher`: whether more is better."""

    name: str
    value: float
    unit: str
    higher: bool = False


def print_beside(figures: Iterable[Figure], kept: Path, *, keeps: bool) -> bool:
    """Print figures as they come, with their ratio to those in the file `kept`.

    Returns whether all are within a third of them. `keeps` writes the file anew.
    """
    before = json.loads(kept.read_text()) if kept.exists() else {}
    now: dict[str, float] = {}
    holds = True
    for figure in figures:
        now[figure.name] = round(figure.value, 3)
        line = f"{figure.name:52} {figure.value:10.3g} {figure.unit:10}"
        old = before.get(figure.name)
        if old:
            ratio = figure.value / old
            gain = ratio if figure.higher else 1 / max(ratio, 1e-9)
            line += f" {ratio:6.2f} of {old:g}"
            if gain < 2 / 3:
                line += "  WORSE"
                holds = False
        print(line, flush=True)
    if keeps:
        kept.write_text(json.dumps({**before, **now}, indent=1) + "\n")
    return holds
