"""What a shell between cargo and us cannot hand on is there all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, write

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

MANIFEST = '[package]\nname = "my-app"\nversion = "0.1.0"\nedition = "2021"\nbuild = "build.rs"\n'
FILES = {
    "Cargo.toml": MANIFEST,
    # as the crate cc asks for flags
    "build.rs": 'fn main() { println!("cargo::rustc-env=FLAGS={:?}",'
    ' std::env::var("CFLAGS_x86_64-unknown-linux-gnu")); }\n',
    "src/main.rs": 'fn main() { println!("{} {:?} {:?}", env!("FLAGS"), option_env!("A.B"),'
    ' option_env!("OPTIND")); }\n',
    "tests/it.rs": '#[test] fn it_is_there() { let program = env!("CARGO_BIN_EXE_my-app");\n'
    "    assert!(std::process::Command::new(program).status().unwrap().success()); }\n",
}
ODD = {"CFLAGS_x86_64-unknown-linux-gnu": "-O1", "A.B": "it's\n2", "OPTIND": "77"}


def test_variables_with_other_names(dev: Developer, tmp_path: Path) -> None:
    """In a first build, which a program starts, and in the next, which a shell script does."""
    here = write(tmp_path / "w", FILES)
    for variables in (ODD, {**ODD, "A.B": "3"}, {}):
        dev.extra = variables
        dev.run("cargo", "distbuild", "build", cwd=here)
        said = dev.run(here / "target/debug/my-app", cwd=here).stdout
        dev.run("cargo", "build", "--target-dir", tmp_path / "plain", cwd=here)
        assert said == dev.run(tmp_path / "plain/debug/my-app", cwd=here).stdout
        assert ("77" in said) == bool(variables)


def test_programs_with_other_names_by_hand(dev: Developer, tmp_path: Path) -> None:
    here = write(tmp_path / "w", FILES)
    for _ in range(2):
        done = dev.run("cargo", "test", cwd=here, RUSTC_WRAPPER="cargo-distbuild-wrapper")
        assert "it_is_there ... ok" in done.stdout
        assert len(dev.units(here)) == 4, "one build's, though each has a shell of its own"
        dev.run("cargo", "clean", cwd=here)
