"""A build as one page: what ran when and where. Self-contained HTML without a script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from wrapper.stats import OUTCOMES
from wrapper.wording import counted

_WIDTH = 1000.0
_ROW = 20
_NAMES = {"hit-local": "local hit", "hit-remote": "hit from the server", "local": "compiled here"}
_COLOURS = {"hit-local": "#3f9d5a", "hit-remote": "#7cc36a", "local": "#d9853b"}
_WORKERS = ("#3f6fb5", "#5d8fd3", "#7a62b8", "#4aa3b5", "#8a80cf", "#2f5796")
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em;
  color: #1c1c1c; background: #fff; }
h1 { font-size: 1.3em; } h2 { font-size: 1.05em; margin-top: 2em; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
svg .grid { stroke: currentColor; stroke-opacity: .15; }
.key { display: inline-block; margin-right: 1.2em; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
table { border-collapse: collapse; } td, th { padding: .15em .9em .15em 0; text-align: left; }
td.n, th.n { text-align: right; }
@media (prefers-color-scheme: dark) { body { color: #e4e4e4; background: #1b1b1b; } }
"""


def page(data: Mapping[str, Any]) -> str:
    """The page of a build's summary (see `stats.summary`)."""
    shown = [*data["units"], *data["runs"]]
    units = sorted(shown, key=lambda unit: (unit.get("started", 0.0), unit["crate"]))
    begin = min((unit.get("started", 0.0) for unit in units), default=0.0)
    spans = [_span(unit, begin) for unit in units]
    length = max((end for _, end in spans), default=0.0) or 1.0
    colours = _colours(units)
    body = [
        "<h1>cargo distbuild: timings</h1>",
        f"<p>{html.escape(_totals(data['totals'], length))}</p>",
        f"<p>{_legend(colours)}</p>",
        "<h2>Units</h2>", _bars(units, spans, length, colours),
        "<h2>Units at a time</h2>", _concurrency(spans, length),
        "<h2>Table</h2>", _table(units, spans),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>cargo distbuild: timings</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _span(unit: Mapping[str, Any], begin: float) -> tuple[float, float]:
    start = float(unit.get("started", 0.0)) - begin
    return start, start + float(unit["seconds"])


def _place(unit: Mapping[str, Any]) -> str:
    """Where a unit came from, in words."""
    if unit["outcome"] == "remote":
        return str(unit["worker"] or "a worker")
    return _NAMES[unit["outcome"]]


def _colours(units: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A colour for each place that occurs; workers take turns."""
    workers = sorted({_place(unit) for unit in units if unit["outcome"] == "remote"})
    present = {unit["outcome"] for unit in units}
    found = {_NAMES[o]: _COLOURS[o] for o in OUTCOMES if o in present and o in _NAMES}
    return found | {name: _WORKERS[i % len(_WORKERS)] for i, name in enumerate(workers)}


def _totals(totals: Mapping[str, Any], length: float) -> str:
    hits = totals["hit-local"] + totals["hit-remote"]
    return (
        f"{counted(totals['units'], 'unit')} in {length:.2f} s: {counted(hits, 'hit')} "
        f"({totals['hit-local']} local, "
        f"{totals['hit-remote']} from the server), {totals['remote']} on workers, "
        f"{totals['local']} compiled here; {totals['saved']:.1f} s of compiling saved; "
        f"{totals['downloaded']:,} bytes down, {totals['uploaded']:,} up"
    )


def _legend(colours: Mapping[str, str]) -> str:
    return "".join(
        f'<span class="key"><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for name, colour in colours.items()
    )


def _ticks(length: float) -> list[float]:
    """Between four and ten round times, 0 and on."""
    step = 10.0 ** (len(str(int(length))) - 1) if length >= 1 else 0.1
    while length / step > 10:
        step *= 2
    while length / step < 4:
        step /= 2
    return [step * i for i in range(int(length / step) + 1)]


def _grid(length: float, height: float) -> list[str]:
    lines = []
    for tick in _ticks(length):
        x = tick / length * _WIDTH
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
        lines.append(f'<text x="{x:.1f}" y="{height + 14}">{tick:g} s</text>')
    return lines


def _bars(
    units: Sequence[Mapping[str, Any]],
    spans: Sequence[tuple[float, float]],
    length: float,
    colours: Mapping[str, str],
) -> str:
    height = len(units) * _ROW
    parts = [f'<svg viewBox="0 0 {_WIDTH + 40:.0f} {height + 20}" role="img">']
    parts += _grid(length, height)
    for row, (unit, (start, end)) in enumerate(zip(units, spans, strict=True)):
        x, width = start / length * _WIDTH, max(1.0, (end - start) / length * _WIDTH)
        y = row * _ROW
        label = html.escape(f"{unit['crate']} ({unit['kind']}) {end - start:.2f} s")
        title = html.escape(_title(unit, start, end))
        # a label that would run out at the right stands before its bar
        anchor, at = ("start", x + 4) if x < _WIDTH * 0.7 else ("end", x - 4)
        parts.append(
            f'<g><title>{title}</title><rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" '
            f'height="{_ROW - 4}" fill="{colours[_place(unit)]}" rx="2"/>'
            f'<text x="{at:.1f}" y="{y + 14}" text-anchor="{anchor}">{label}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def _title(unit: Mapping[str, Any], start: float, end: float) -> str:
    said = f"{unit['crate']} ({unit['kind']}): {_place(unit)}, {start:.2f} s to {end:.2f} s"
    return f"{said}, because: {unit['reason']}" if unit["reason"] else said


def _concurrency(spans: Sequence[tuple[float, float]], length: float) -> str:
    """How many units were under way, as steps over time."""
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running, steps = 0, [(0.0, 0)]
    for time, change in events:
        running += change
        steps.append((time, running))
    steps.append((length, 0))
    most = max(count for _, count in steps) or 1
    height = 100.0
    points = ["0,100"]
    for (time, count), (until, _) in pairwise(steps):
        y = height - count / most * height
        points += [f"{t / length * _WIDTH:.1f},{y:.1f}" for t in (time, until)]
    points.append(f"{_WIDTH:.0f},100")
    return "".join(
        [
            f'<svg viewBox="0 0 {_WIDTH + 40:.0f} {height + 20:.0f}" role="img">',
            *_grid(length, height),
            f'<polygon points="{" ".join(points)}" fill="#3f6fb5" fill-opacity=".6"/>',
            f'<text x="{_WIDTH + 4:.0f}" y="10">{most}</text></svg>',
        ]
    )


def _table(units: Sequence[Mapping[str, Any]], spans: Sequence[tuple[float, float]]) -> str:
    head = "".join(
        f"<th{' class=n' if i in (3, 4) else ''}>{name}</th>"
        for i, name in enumerate(("unit", "kind", "where", "start", "seconds", "why here"))
    )
    rows = [f"<tr>{head}</tr>"]
    for unit, (start, end) in zip(units, spans, strict=True):
        cells = [
            f"<td>{html.escape(text)}</td>" for text in (unit["crate"], unit["kind"], _place(unit))
        ]
        cells += [f'<td class="n">{value:.2f}</td>' for value in (start, end - start)]
        cells.append(f"<td>{html.escape(unit['reason'] or '')}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"
