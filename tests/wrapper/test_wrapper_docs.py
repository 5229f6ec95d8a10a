"""docs/wrapper.md names every setting and every command there is."""

from __future__ import annotations

from pathlib import Path

from wrapper.cli.main import USAGE
from wrapper.config import SETTINGS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "wrapper.md").read_text()


def test_settings() -> None:
    for setting in SETTINGS:
        assert f"`{setting.key}`" in TEXT
        assert setting.variable in TEXT or f"`…_{setting.variable.split('_', 1)[1]}`" in TEXT


def test_commands() -> None:
    for command in ("stats", "timings", "why-miss", "doctor", "config"):
        assert f"cargo distbuild {command}" in USAGE
        assert f"cargo distbuild {command}" in TEXT
