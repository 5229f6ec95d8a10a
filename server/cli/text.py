"""Values as people read them in a terminal, and as programs read them in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from remote_apis.digest_functions import BY_NUMBER, infer
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

NOTHING = "-"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; an empty cell is shown as a dash."""
    cells = [header, *([_clean(cell) or NOTHING for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def fields(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each pair whose value is not empty, the values aligned."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name.ljust(width)}  {_clean(value)}" for name, value in shown]


def duration(seconds: float) -> str:
    """`12 ms`, `3.4 s`, `1.5 min`, `5.0 h`, `3.2 d`."""
    seconds = max(0.0, seconds)
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def between(start: Timestamp, end: Timestamp) -> str:
    """How long it took, or "" when one of the times is not known."""
    if not is_set(start) or not is_set(end):
        return ""
    return duration((end.ToNanoseconds() - start.ToNanoseconds()) / 1e9)


def is_set(timestamp: Timestamp) -> bool:
    """Whether there is a time in it."""
    return bool(timestamp.seconds or timestamp.nanos)


def instant(timestamp: Timestamp) -> str | None:
    """RFC 3339 in UTC, to the microsecond; None when it is not set."""
    if not is_set(timestamp):
        return None
    return datetime.fromtimestamp(timestamp.ToNanoseconds() / 1e9, UTC).isoformat()


def digest_text(message: re_pb.Digest, function: int = 0) -> str:
    """`sha256:hash/size`, or "" when it is not set; the function as far as it is known."""
    if not message.hash:
        return ""
    known = BY_NUMBER.get(function) or infer(len(message.hash))
    label = f"{known.label}:" if known is not None else ""
    return f"{label}{message.hash}/{message.size_bytes}"


def _clean(text: str) -> str:
    """What others sent may hold control characters, which a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)
