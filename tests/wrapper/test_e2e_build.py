"""A workspace built through a server by two workers, in all ways of wrapping."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import EXAMPLE, Developer, away_from, developer, outcomes, outputs
from running import BIN, RunningServer, running_server

from wrapper.ladder import CROWDED

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(900)]
CRATES = {"lib-common", "lib-math", "lib-utils", "lib-parser", "lib-advanced", "main-binary"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("server")
    with running_server(directory / "data", "--workers", "2") as running:
        yield running


@pytest.fixture(scope="module")
def built(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developer]:
    """A developer who has built the example once."""
    with developer(tmp_path_factory.mktemp("alice"), server.url) as alice:
        alice.build(alice.checkout("workspace"))
        yield alice


def files_of(target: Path) -> dict[str, bytes]:
    """Programs and libraries of a target directory, by name."""
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in outputs(target / "debug", "*")
        # a build script has a launcher before it, which knows its user
        if path.is_file() and path.suffix != ".d" and not path.name.startswith("build_script_")
    }


def test_first_build_ran_on_both_workers(built: Developer) -> None:
    units = built.units(built.directory)
    assert {unit["crate"] for unit in units} == CRATES
    assert outcomes(units) == {"remote"}, units
    assert {unit["worker"] for unit in units} == {"worker-1", "worker-2"}
    assert {unit["kind"] for unit in units} >= {"lib", "bin", "build-script"}


def test_the_program_runs(built: Developer) -> None:
    program = built.directory / "workspace" / "target" / "debug" / "main-binary"
    assert built.run(program, cwd=built.directory).stdout.strip()


@pytest.mark.parametrize("is_away", [False, True])
def test_another_developer_elsewhere_compiles_nothing(
    built: Developer, server: RunningServer, tmp_path: Path, *, is_away: bool
) -> None:
    """On the server's machine, where blobs are copied from its directory, and on another."""
    prefix = away_from(server.data_dir) if is_away else ()
    with developer(tmp_path / "bob", server.url, prefix=prefix) as bob:
        checkout = bob.checkout("deeper/in/another place")
        units = bob.build(checkout)
        assert outcomes(units) == {"hit-remote"}, units
        mine = files_of(checkout / "target")
    theirs = files_of(built.directory / "workspace" / "target")
    assert mine == theirs


def test_plain_cargo_rebuilds_nothing_afterwards(built: Developer) -> None:
    done = built.run("cargo", "build", cwd=built.directory / "workspace")
    assert "Compiling" not in done.stderr


def test_local_hits_after_clean(built: Developer, tmp_path: Path) -> None:
    checkout = built.checkout("again")
    assert outcomes(built.build(checkout)) == {"hit-local"}
    built.run("cargo", "clean", cwd=checkout)
    assert outcomes(built.build(checkout)) == {"hit-local"}
    assert built.build(checkout) == []  # cargo itself found nothing to do


def test_wrapper_by_hand(built: Developer) -> None:
    checkout = built.checkout("by-hand")
    built.run("cargo", "build", cwd=checkout, RUSTC_WRAPPER="cargo-distbuild-wrapper")
    units = built.units(checkout)
    assert {unit["crate"] for unit in units} == CRATES
    assert outcomes(units) == {"hit-local"}, units


def test_workspace_wrapper_by_hand(built: Developer) -> None:
    checkout = built.checkout("workspace-wrapper")
    wrapper = str(BIN / "cargo-distbuild-wrapper")
    built.run("cargo", "build", cwd=checkout, RUSTC_WORKSPACE_WRAPPER=wrapper)
    units = built.units(checkout)
    assert {unit["crate"] for unit in units} == CRATES
    assert "local" not in outcomes(units), units
    program = checkout / "target" / "debug" / "main-binary"
    assert built.run(program, cwd=checkout).stdout.strip()


def test_tests_run_and_are_shared(built: Developer, server: RunningServer, tmp_path: Path) -> None:
    """Test programs that hold no path of the checkout are hits for others too."""
    checkout = built.checkout("testing")
    done = built.run("cargo", "distbuild", "test", cwd=checkout)
    assert "test result: ok" in done.stdout and "FAILED" not in done.stdout
    here = [u for u in built.units(checkout) if u["outcome"] == "local"]
    # with jobs raised to the pool's slots, idle cores help workers out
    assert all("path" in u["reason"] or u["reason"] == CROWDED for u in here), here


def test_a_change_is_compiled_and_the_rest_is_not(built: Developer) -> None:
    checkout = built.checkout("changed")
    source = checkout / "crates" / "lib-advanced" / "src" / "lib.rs"
    source.write_text(source.read_text() + "\n/// New.\npub fn brand_new() -> u8 {\n    7\n}\n")
    units = built.build(checkout)
    fresh = {unit["crate"] for unit in units if unit["outcome"] == "remote"}
    assert fresh == {"lib-advanced", "main-binary"}


def test_release_check_and_clippy(built: Developer) -> None:
    checkout = built.checkout("others")
    for arguments in (["build", "--release"], ["check"], ["clippy"]):
        done = built.run("cargo", "distbuild", *arguments, cwd=checkout)
        assert "error" not in done.stderr
        units = built.units(checkout)
        # with jobs raised to the pool's slots, idle cores help workers out
        reasons = {unit["reason"] for unit in units if unit["outcome"] == "local"}
        assert units and reasons <= {CROWDED}, units


def test_summary_line(built: Developer) -> None:
    checkout = built.checkout("summary")
    done = built.run("cargo", "distbuild", "build", cwd=checkout)
    assert re.search(r"Distbuild \d+ units: \d+ hits .* 0 compiled here", done.stderr)


def test_example_is_what_plain_cargo_builds(built: Developer, tmp_path: Path) -> None:
    """The program behaves as the one that plain cargo makes."""
    plain = built.checkout("plain", EXAMPLE)
    built.run("cargo", "build", cwd=plain)
    run = [Path("target") / "debug" / "main-binary"]
    ours = built.run(built.directory / "workspace" / run[0], cwd=plain).stdout
    assert built.run(plain / run[0], cwd=plain).stdout == ours
