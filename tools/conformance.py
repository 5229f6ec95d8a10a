"""Generate docs/conformance.md: every requirement of REAPI 2.12 and the tests that check it.

Rows come from tests/data/reapi-requirements.json, tests from their `pytest.mark.row(N, …)` marks,
read from the source without running it. `python tools/conformance.py` writes the page.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "data" / "reapi-requirements.json"
PAGE = ROOT / "docs" / "conformance.md"
LEVELS = {"M": "must", "S": "should", "Y": "may", "C": "client", "C/M": "must", "-": "open"}
HEAD = """\
# Conformance

REAPI 2.12 and the APIs beside it, one testable requirement a row, and the tests that check it.
A row is *tested* when tests are named; `make test` fails when one of them does, and when a row has
none. Made by `python tools/conformance.py`; a test compares it with the marks in the tests.

RE remote_execution.proto, BS bytestream.proto, RA remote_asset.proto, LS remote_logstream.proto,
SV semver.proto.

| row | level | requirement | where | state | tests |
|---|---|---|---|---|---|
"""


def rows_of(mark: ast.expr) -> Iterator[int]:
    """The numbers of a `pytest.mark.row(…)`, however deep in an expression it stands."""
    for node in ast.walk(mark):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "row"
        ):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))  # type: ignore[misc]


def tests_of_file(path: Path) -> Iterator[tuple[int, str]]:
    """Pairs of row and test name, the marks of the whole module and of classes included."""
    module = ast.parse(path.read_text())
    common: list[int] = []
    for node in module.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
        ):
            common += rows_of(node.value)
    for test in ast.walk(module):
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and (
            test.name.startswith("test_")
        ):
            own = [row for mark in test.decorator_list for row in rows_of(mark)]
            yield from ((row, test.name) for row in dict.fromkeys([*common, *own]))


def tests_by_row() -> dict[int, list[str]]:
    """For each row the tests that name it, as `file::test`."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for row, name in tests_of_file(path):
            found.setdefault(row, []).append(f"{path.stem}::{name}")
    return found


def page() -> str:
    """The whole page."""
    tests = tests_by_row()
    lines = []
    for row in json.loads(TABLE.read_text()):
        names = tests.get(row["row"], [])
        shown = "<br>".join(f"`{name}`" for name in names[:4])
        more = f"<br>and {len(names) - 4} more" if len(names) > 4 else ""
        level = LEVELS[row["level"]]
        state = "tested" if names else "no test"
        requirement = row["requirement"].replace("|", "\\|")
        lines.append(
            f"| {row['row']} | {level} | {requirement} | {row['where']} | {state} | {shown}{more} |"
        )
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    missing = [
        row["row"] for row in json.loads(TABLE.read_text()) if row["row"] not in tests_by_row()
    ]
    print(f"rows without a test: {missing or 'none'}")
