"""docs/cluster.md tells commands that there are, and files that there are."""

from __future__ import annotations

import re
import shlex

from server.cli.main import build_parser
from tests.deploy.deploy_files import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()


def commands() -> list[list[str]]:
    """The lines of the page's shell blocks, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_commands_are_understood() -> None:
    ours = [line[1:] for line in commands() if line[0].endswith("distbuild")]
    assert len(ours) >= 6
    for words in ours:
        build_parser({}).parse_args(words)


def test_files_are_there() -> None:
    named = [word for line in commands() for word in line if word.startswith("deploy/")]
    linked = re.findall(r"\]\(\.\./([^)]+)\)", PAGE)
    assert len(named) >= 4 and linked
    for name in [*named, *linked]:
        assert (ROOT / name).exists(), name


def test_capabilities_are_those_of_the_pod() -> None:
    manifest = (ROOT / "deploy" / "kubernetes" / "worker.yaml").read_text()
    (pod,) = re.findall(r"add: \[([A-Z_, ]+)\]", manifest)
    (unit,) = re.findall(r"CapabilityBoundingSet=([A-Z_\s]+)`", PAGE)
    assert [f"CAP_{name}" for name in pod.split(", ")] == unit.split()
