"""The workflow of docs/github-actions.md is one, and calls what there is."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from wrapper.cli.main import USAGE
from wrapper.config import SETTINGS

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "deploy" / "github-actions" / "rust.yml"
CARGO = {"clippy", "test", "build", "check"}


@pytest.fixture
def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(FILE.read_text())
    return found


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workflow["jobs"]["test"]["steps"]
    return found


def test_its_form(workflow: dict[Any, Any]) -> None:
    # YAML 1.1 takes the key `on` for a truth value
    assert set(workflow) == {"name", True, "permissions", "env", "jobs"}
    assert set(workflow[True]) == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step), step
        assert set(step) <= {"name", "if", "run", "uses", "with", "env"}, step
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_shell_can_read_its_scripts(workflow: dict[Any, Any]) -> None:
    for step in steps(workflow):
        if "run" in step:
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True, timeout=30)


def test_its_commands_and_variables_exist(workflow: dict[Any, Any]) -> None:
    called = set()
    for step in steps(workflow):
        for line in step.get("run", "").splitlines():
            words = shlex.split(line)
            if words[:2] == ["cargo", "distbuild"]:
                called.add(words[2])
    assert {"doctor", "stats", "timings", "stop", "test"} <= called
    for command in called - CARGO:
        assert f"cargo distbuild {command}" in USAGE
    known = {setting.variable for setting in SETTINGS} | {"DISTBUILD_SOURCE", "CARGO_INCREMENTAL"}
    assert set(workflow["env"]) <= known


def test_what_is_saved_is_what_is_made(workflow: dict[Any, Any]) -> None:
    (cache,) = (step for step in steps(workflow) if "actions/cache@" in step.get("uses", ""))
    assert cache["with"]["path"] == f"{workflow['env']['DISTBUILD_HOME']}/cache"
    # `stop` is what waits for the results, so it comes last; caches are saved after all steps
    assert steps(workflow)[-1]["run"] == "cargo distbuild stop"


def test_the_page_about_it(workflow: dict[Any, Any]) -> None:
    text = (ROOT / "docs" / "github-actions.md").read_text()
    assert "../deploy/github-actions/rust.yml" in text
    for name in re.findall(r"vars\.(\w+)", FILE.read_text()):
        assert f"| `{name}` |" in text
