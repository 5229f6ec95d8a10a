"""How numbers, times and tables read in the commands' output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

BUILT_ELSEWHERE = "was built without cargo-distbuild, or elsewhere"
"""Ends the reason of a unit that stands on such a one: there are many of them at once."""

_BLOB = re.compile(r" for blob \S+[0-9a-f]/\d+")


def size(count: int) -> str:
    """`0 B`, `812 B`, `3.1 MiB`."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def counted(number: int, what: str) -> str:
    """`1 unit`, `7 units`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def trouble(error: Exception) -> str:
    """What went wrong, for the user: with the file's name where there is one."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    # which blob it was would make a reason of its own for each unit
    return _BLOB.sub("", str(error))


def not_kept(reason: str | None, why: str) -> str:
    """The reason for working here, and why the result is not kept: that alone where the other one
    says no more than that no cache had it."""
    return why if reason is None or reason.startswith("new: ") else f"{reason}; not kept: {why}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12.0 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length, one a line, each column as wide as its widest cell."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def totals_line(totals: dict[str, Any]) -> str:
    """`12 units: 10 hits (8 local, 2 from the server), 1 on workers, 1 compiled here; …`."""
    local, remote = totals["hit-local"], totals["hit-remote"]
    line = (
        f"{counted(totals['units'], 'unit')}: {counted(local + remote, 'hit')} ({local} local, "
        f"{remote} from the server), {totals['remote']} on workers, {totals['local']} compiled here"
    )
    if totals.get("runs"):
        line += f"; {totals['run_hits']} of {totals['runs']} build scripts' runs were known"
    if totals.get("elsewhere"):
        said = f"{totals['elsewhere']} on top of what was built without cargo-distbuild"
        line += f"; {said} (`cargo clean` ends that)"
    if totals["saved"] >= 0.05:
        line += f"; {duration(totals['saved'])} of compiling saved"
    if totals["downloaded"] or totals["uploaded"]:
        line += f"; {size(totals['downloaded'])} down, {size(totals['uploaded'])} up"
    return line
