"""Macros that ask `rustc` for its version, as Rocket's do."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer

from tests.wrapper.reason_texts import provokes
from tests.wrapper.test_e2e_macros import built, reason_of, workspace

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

VERSION = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let program = std::env::var("RUSTC").unwrap_or(word(&input));
    let said = std::process::Command::new(program).arg("--version").output().unwrap().stdout;
    literal(String::from_utf8(said).unwrap())
}
"""


def test_a_macro_that_runs_the_compiler_by_its_name(dev: Developer, tmp_path: Path) -> None:
    here = workspace(tmp_path / "w", VERSION, "rustc")
    outcome, version = built(dev, here)
    assert outcome == "local" and version.startswith("rustc ")
    assert built(dev, here) == ("hit-local", version)
    there = workspace(tmp_path / "far" / "w", VERSION, "rustc")
    assert built(dev, there) == ("hit-local", version), "another checkout"


def test_another_compiler_by_that_name(dev: Developer, tmp_path: Path) -> None:
    """cargo takes the one of its configuration, and the macro what is first on PATH."""
    here = workspace(tmp_path / "w", VERSION, "rustc")
    _, version = built(dev, here)
    sysroot = dev.run("rustc", "--print", "sysroot", cwd=here).stdout.strip()
    cargos = dev.directory / "cargo" / "config.toml"
    cargos.write_text(f'[build]\nrustc = "{sysroot}/bin/rustc"\n')
    own = tmp_path / "bin" / "rustc"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\necho rustc of my own\n")
    own.chmod(0o755)
    dev.extra = {"PATH": f"{own.parent}:{dev.environment['PATH']}"}
    assert [built(dev, here) for _ in range(2)] == [("local", "rustc of my own")] * 2
    provokes("a macro runs rustc, and on this user's PATH that is another", reason_of(dev, here))
    dev.extra = {}
    assert built(dev, here) == ("hit-local", version)
