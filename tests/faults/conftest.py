"""After every fault: no process and no mount is left of what the test started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Set up before all that the test asks for, and so looked at when that has ended."""
    yield
    deadline = time.monotonic() + leftovers.SECONDS
    while left := leftovers.processes(tmp_path) + leftovers.mounts(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
