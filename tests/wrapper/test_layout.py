"""Where cargo puts what it builds, until 1.99 and from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from wrapper.layout import (
    is_of_script,
    name_of_run,
    place_of_run,
    profile_of,
    said_by_script,
    target_of,
)

HASH = "0123456789abcdef"
UNITS = ["deps", "examples", f"build/p-{HASH}", f"build/p/{HASH}/out", f"build/build/{HASH}/out"]
RUNS = [f"build/p-{HASH}", f"build/p/{HASH}", f"build/build/{HASH}"]


@pytest.mark.parametrize("rest", UNITS)
@pytest.mark.parametrize("profile", ["debug", "wasm32-unknown-unknown/release", "build"])
def test_a_unit(profile: str, rest: str) -> None:
    out_dir = f"/t/{profile}/{rest}"
    above = str(Path(f"/t/{profile}").parent)
    assert target_of(out_dir) == above
    assert profile_of(out_dir) == f"/t/{profile}"


@pytest.mark.parametrize(
    "path", ["/t/deps", "/t/debug/out", "/t/debug/build", "t/debug/deps", "/o"]
)
def test_no_unit_of_cargos(path: str) -> None:
    assert target_of(path) is None


@pytest.mark.parametrize("rest", RUNS)
def test_a_run(rest: str) -> None:
    directory = f"/t/debug/{rest}"
    assert target_of(place_of_run(f"{directory}/out")) == "/t"
    assert profile_of(directory) == "/t/debug"
    name = "build" if "build/build" in rest else "p"
    assert name_of_run(f"{directory}/out") == f"{name}-{HASH}"


def test_what_a_script_said() -> None:
    assert said_by_script(f"/t/debug/build/p-{HASH}/out") == f"/t/debug/build/p-{HASH}/output"
    said = said_by_script(f"/t/debug/build/p/{HASH}/out")
    assert said == f"/t/debug/build/p/{HASH}/run/stdout"


def test_a_scripts_own_directory(tmp_path: Path) -> None:
    """In the new layout libraries have such a one, too."""
    target = str(tmp_path / "build" / "x" / "out")  # as no target directory ought to be called
    for profile in ("/debug", "/some-target/debug"):
        script, library = f"{target}{profile}/build/p/{HASH}", f"{target}{profile}/build/q/{HASH}"
        Path(script, "run").mkdir(parents=True)
        assert is_of_script(f"{script}/out", target) and is_of_script(f"{script}/out/file", target)
        assert not any(is_of_script(each, target) for each in (f"{library}/out", script))
        assert is_of_script(f"{target}{profile}/build/p-{HASH}/out/file", target)
        others = (target, f"{target}{profile}/build", f"{script}/outer", f"{target}{profile}/deps")
        assert not any(is_of_script(each, target) for each in others)
