"""Where rustc keeps state of a first compile, for the edits to come."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, write

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

PACKAGE = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'
LARGE = f"// {'x' * 100}\n" * 800


@pytest.fixture
def workspace(dev: Developer) -> Path:
    """A program, and two libraries that it is made of."""
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app", "base", "large"]\n',
        "app/Cargo.toml": PACKAGE.replace("{}", "app")
        + '[dependencies]\nbase.path = "../base"\nlarge.path = "../large"\n',
        "app/src/main.rs": "fn main() { assert_eq!(base::value(), large::value()); }",
        "base/Cargo.toml": PACKAGE.replace("{}", "base"),
        "base/src/lib.rs": "pub fn value() -> u8 { 7 }\n",
        "large/Cargo.toml": PACKAGE.replace("{}", "large"),
        "large/src/lib.rs": f"pub fn value() -> u8 {{ 7 }}\n{LARGE}",
    }
    return write(dev.directory / "ws", files)


def with_state(workspace: Path) -> set[str]:
    """The crates of which rustc keeps state."""
    names = (workspace / "target/debug/incremental").glob("*-*/s-*")
    return {path.parent.name.rpartition("-")[0] for path in names}


def test_small_libraries_have_state_from_their_first_edit_on(
    dev: Developer, workspace: Path
) -> None:
    dev.build(workspace)
    assert with_state(workspace) == {"app", "large"}
    (workspace / "base/src/lib.rs").write_text("pub fn value() -> u8 { 3 + 4 }\n")
    edited = {unit["crate"]: unit["outcome"] for unit in dev.build(workspace)}
    assert edited["base"] == "local"
    assert with_state(workspace) == {"app", "base", "large"}
    dev.run(workspace / "target/debug/app", cwd=workspace)


@pytest.mark.parametrize(
    ("name", "value"), [("CARGO_INCREMENTAL", "1"), ("CARGO_BUILD_INCREMENTAL", "true")]
)
def test_who_asks_for_state_gets_it(dev: Developer, workspace: Path, name: str, value: str) -> None:
    dev.build(workspace, **{name: value})
    assert with_state(workspace) == {"app", "base", "large"}
