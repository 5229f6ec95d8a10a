"""The one developer that most end-to-end tests are about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import Developer, developer


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developer]:
    """Without a server."""
    with developer(tmp_path / "dev", None) as person:
        yield person
