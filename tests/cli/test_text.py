"""What commands print: aligned, and harmless to a terminal."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.cli.text import between, digest_text, duration, fields, instant, table

ROWS = st.lists(st.tuples(st.text(), st.text(), st.text()))


@given(ROWS)
def test_a_table_has_a_line_a_row_and_no_control_characters(rows: list[tuple[str, ...]]) -> None:
    lines = table(("A", "B", "C"), rows)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() and line == line.rstrip() for line in lines)


def test_columns_are_aligned() -> None:
    assert table(("NAME", "B"), [("x", "1"), ("longer", ""), ("\x1b[2J", "2")]) == [
        "NAME    B",
        "x       1",
        "longer  -",
        "?[2J    2",
    ]


def test_fields_without_a_value_are_left_out() -> None:
    assert fields([("a", "1"), ("none", ""), ("long", "a\nb")]) == ["a     1", "long  a?b"]
    assert fields([]) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0126, "13 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1.0 min"),
        (7200, "2.0 h"),
        (200_000, "2.3 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times() -> None:
    start, end = Timestamp(seconds=1_700_000_000), Timestamp(seconds=1_700_000_002, nanos=500_000)
    assert between(start, end) == "2.0 s"
    assert between(Timestamp(), end) == between(start, Timestamp()) == ""
    assert instant(start) == "2023-11-14T22:13:20+00:00"
    assert instant(Timestamp()) is None


@pytest.mark.parametrize(
    ("hash_", "function", "text"),
    [
        ("a" * 64, 0, f"sha256:{'a' * 64}/7"),
        ("a" * 64, re_pb.DigestFunction.BLAKE3, f"blake3:{'a' * 64}/7"),
        ("abc", 0, "abc/7"),
        ("", 0, ""),
    ],
)
def test_digests(hash_: str, function: int, text: str) -> None:
    assert digest_text(re_pb.Digest(hash=hash_, size_bytes=7), function) == text
