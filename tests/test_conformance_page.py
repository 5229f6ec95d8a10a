"""docs/conformance.md tells of the tests that there are, and every requirement has one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_is_current_and_every_row_is_tested(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import conformance; print(conformance.page(), end='')"],
        cwd=ROOT / "tools", capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = (ROOT / "docs" / "conformance.md").read_text()
    assert done.stdout == page, "run: python tools/conformance.py"
    rows = json.loads((ROOT / "tests" / "data" / "reapi-requirements.json").read_text())
    assert [row["row"] for row in rows] == list(range(1, 119))
    assert "| no test |" not in page
