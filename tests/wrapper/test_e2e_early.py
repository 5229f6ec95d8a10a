"""Dependents start when the metadata is there: on workers, and on hits."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, developer
from running import running_server

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

FUNCTIONS = 600
BODY = """
pub fn f{n}(data: &[u64]) -> u64 {{
    let mut words: Vec<String> = data.iter().map(|d| format!("{{}}-{n}", d)).collect();
    words.sort();
    words.iter().enumerate().map(|(i, w)| i as u64 * w.len() as u64 + {n}).sum()
}}
"""


def workspace(directory: Path) -> Path:
    """`user` stands on `slow`, whose code takes some seconds to make after its metadata."""
    for name, depends in (("slow", ""), ("user", 'slow = { path = "../slow" }')):
        (directory / name / "src").mkdir(parents=True)
        (directory / name / "Cargo.toml").write_text(
            f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n'
            f"[dependencies]\n{depends}\n"
        )
    (directory / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["slow", "user"]\nresolver = "2"\n'
        "[profile.release]\ncodegen-units = 1\n"
    )
    functions = "".join(BODY.format(n=n) for n in range(FUNCTIONS))
    (directory / "slow" / "src" / "lib.rs").write_text(
        f"#![warn(unused)]\nfn odd() {{}}\n{functions}"
    )
    (directory / "user" / "src" / "lib.rs").write_text("pub fn user() -> u64 { slow::f0(&[1]) }\n")
    return directory


def spans(dev: Developer, checkout: Path) -> dict[str, tuple[str, float, float]]:
    units = dev.units(checkout)
    return {
        unit["crate"]: (unit["outcome"], unit["started"], unit["started"] + unit["seconds"])
        for unit in units
    }


def test_a_dependent_starts_while_the_worker_is_still_at_it(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "server", "--workers", "2") as server,
        developer(tmp_path / "alice", server.url) as alice,
        developer(tmp_path / "bob", server.url) as bob,
    ):
        checkout = workspace(tmp_path / "ws")
        done = alice.run("cargo", "distbuild", "build", "--release", "-j4", cwd=checkout)
        assert done.stderr.count("function `odd` is never used") == 1
        found = spans(alice, checkout)
        assert found["slow"][0] == found["user"][0] == "remote"
        assert found["user"][1] < found["slow"][2] - 0.1
        # what was handed out early is what the whole result has: nothing is stale
        again = alice.run("cargo", "build", "--release", cwd=checkout)
        assert "Compiling" not in again.stderr
        elsewhere = workspace(tmp_path / "elsewhere" / "ws")
        done = bob.run("cargo", "distbuild", "build", "--release", cwd=elsewhere)
        assert done.stderr.count("function `odd` is never used") == 1
        assert {outcome for outcome, _, _ in spans(bob, elsewhere).values()} == {"hit-remote"}
        again = bob.run("cargo", "build", "--release", cwd=elsewhere)
        assert "Compiling" not in again.stderr
