"""Builds in cargo's layout of the build directory from 1.100 on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import NEW_LAYOUT, Developer, developer

from tests.wrapper.test_e2e_macros import CONTENT, built, workspace

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developer]:
    with developer(tmp_path / "dev", None) as person:
        person.extra = NEW_LAYOUT
        yield person


def _outcomes(dev: Developer, checkout: Path) -> set[str]:
    """Where all came from in a build, runs of scripts included."""
    dev.build(checkout)
    return {each["outcome"] for each in (*dev.units(checkout), *_runs(dev, checkout))}


def _runs(dev: Developer, checkout: Path) -> list[dict[str, str]]:
    said = dev.run("cargo", "distbuild", "stats", "--json", cwd=checkout).stdout
    runs: list[dict[str, str]] = json.loads(said)["runs"]
    return runs


def test_hits_in_another_checkout(dev: Developer) -> None:
    """The workspace has a build script, whose run is a unit of them."""
    here, there = dev.checkout("here"), dev.checkout("there")
    assert _outcomes(dev, here) == {"local"}
    assert (here / "target/debug/build/lib-parser").is_dir() and not (
        here / "target/debug/deps"
    ).exists(), "the layout is the new one"
    dev.run("cargo", "distbuild", "stop", cwd=here)
    assert _outcomes(dev, there) == {"hit-local"}
    program = "target/debug/main-binary"
    said = dev.run(there / program, "1 + 2", cwd=there).stdout
    assert said == dev.run(here / program, "1 + 2", cwd=here).stdout
    plain = dev.run("cargo", "build", cwd=there)
    assert "Compiling" not in plain.stderr, "cargo finds all of it fresh"


def test_a_build_script_that_reads_something_else(dev: Developer) -> None:
    here = dev.checkout("here")
    dev.build(here)
    operators = here / "crates/lib-parser/operators.txt"
    outcomes = []
    for text in (operators.read_text() + "# more\n", operators.read_text()):
        operators.write_text(text)
        dev.run("cargo", "clean", "-p", "lib-parser", cwd=here)
        dev.build(here)
        outcomes += [run["outcome"] for run in _runs(dev, here)]
    assert outcomes == ["local", "hit-local"]


def test_a_watched_macro(dev: Developer, tmp_path: Path) -> None:
    here = workspace(tmp_path / "w", CONTENT, "text/one")
    assert [built(dev, here) for _ in range(2)] == [("local", "first"), ("hit-local", "first")]
    (here / "app/text/one").write_text("second")
    assert built(dev, here) == ("local", "second")
