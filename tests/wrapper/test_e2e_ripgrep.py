"""A program of others: ripgrep as published, built by two developers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from developers import Developer, developer, outcomes
from running import running_server

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(1500)]
VERSION = "14.1.1"


def fetch_ripgrep(dev: Developer) -> Path:
    """The published crate, unpacked in the developer's directory with a lock file of its own."""
    fetcher = dev.directory / "fetcher"
    (fetcher / "src").mkdir(parents=True)
    (fetcher / "src" / "lib.rs").write_text("")
    (fetcher / "Cargo.toml").write_text(
        '[package]\nname = "fetcher"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\nripgrep = "={VERSION}"\n'
    )
    dev.run("cargo", "fetch", cwd=fetcher)
    (package,) = (dev.directory / "cargo" / "registry" / "src").glob(f"*/ripgrep-{VERSION}")
    checkout = dev.directory / "ripgrep"
    shutil.copytree(package, checkout)
    dev.run("cargo", "fetch", "--locked", cwd=checkout)
    return checkout


def test_ripgrep(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "2") as server:
        with developer(tmp_path / "alice", server.url) as alice:
            first = fetch_ripgrep(alice)
            units = alice.build(first)
            assert "remote" in outcomes(units)
            assert [u for u in units if u["outcome"] == "local"] == []
            rg = first / "target" / "debug" / "rg"
            assert f"ripgrep {VERSION}" in alice.run(rg, "--version", cwd=first).stdout
            found = alice.run(rg, "--count", "ripgrep", "README.md", cwd=first)
            assert int(found.stdout) > 10
            assert "Compiling" not in alice.run("cargo", "build", cwd=first).stderr
        with developer(tmp_path / "bob", server.url) as bob:
            second = fetch_ripgrep(bob)
            elsewhere = bob.directory / "some" / "where else"
            elsewhere.parent.mkdir()
            second.rename(elsewhere)
            units = bob.build(elsewhere)
            assert outcomes(units) == {"hit-remote"}, [u for u in units if u["reason"]]
            assert (elsewhere / "target/debug/rg").read_bytes() == rg.read_bytes()


def test_an_error_that_points_into_a_registry_crate(tmp_path: Path) -> None:
    """The dependency was compiled elsewhere, and its lines are shown as plain rustc shows them."""
    crate = tmp_path / "crate"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "wrong"\nversion = "0.1.0"\nedition = "2021"\n\n[workspace]\n'
        '[dependencies]\nitoa = "=1.0.11"\n'
    )
    (crate / "src" / "main.rs").write_text(
        'fn main() {\n    itoa::Buffer::new().format("text");\n}\n'
    )
    with (
        running_server(tmp_path / "data", "--workers", "1") as server,
        developer(tmp_path / "dev", server.url) as dev,
    ):
        dev.run("cargo", "fetch", cwd=crate)
        said = []
        for command in (["cargo", "build"], ["cargo", "distbuild", "build"]):
            dev.run("cargo", "clean", cwd=crate)
            done = dev.run(*command, "--color=always", cwd=crate, check=False)
            assert done.returncode == 101
            lines = done.stderr.splitlines()
            said.append([line for line in lines if "Distbuild" not in line])
        assert any("itoa-1.0.11/src/lib.rs" in line for line in said[0])
        assert said[1] == said[0]
        assert {u["crate"]: u["outcome"] for u in dev.units(crate)} == {
            "itoa": "remote",
            "wrong": "local",
        }
