"""Runs of build scripts whose programs hold their package's path by `env!`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import Developer, developer, write
from running import running_server

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

SCRIPT = """fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=HERE={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rustc-env=WORD={} {:?}", "LITERAL", option_env!("A_WORD"));
}"""
MAIN = 'fn main() { println!("{} {}", env!("HERE"), env!("WORD")); }'
MANIFEST = '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n'


@pytest.fixture
def people(tmp_path: Path) -> Iterator[tuple[Developer, Developer]]:
    """Two developers with a server."""
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "alice", server.url) as alice,
        developer(tmp_path / "bob", server.url) as bob,
    ):
        yield alice, bob


def package(directory: Path, literal: str = "a word") -> Path:
    files = {
        "Cargo.toml": MANIFEST,
        "build.rs": SCRIPT.replace("LITERAL", literal),
        "src/main.rs": MAIN,
    }
    return write(directory, files)


def built(dev: Developer, checkout: Path, **environment: str) -> tuple[str, str]:
    """What became of the script's run, and what the program says."""
    dev.build(checkout, **environment)
    stats = json.loads(dev.run("cargo", "distbuild", "stats", "--json", cwd=checkout).stdout)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is shared
    (run,) = stats["runs"]
    return run["outcome"], dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip()


def test_they_are_shared(people: tuple[Developer, Developer]) -> None:
    alice, bob = people
    here, there = package(alice.directory / "ws"), package(bob.directory / "other" / "ws")
    assert built(alice, here) == ("local", f"{here} a word None")
    assert built(bob, there) == ("hit-remote", f"{there} a word None")
    third = package(bob.directory / "third")
    assert built(bob, third) == ("hit-local", f"{third} a word None")


def test_variables_that_the_program_holds_count(people: tuple[Developer, Developer]) -> None:
    alice, bob = people
    here, there = package(alice.directory / "ws"), package(bob.directory / "ws")
    for word in ("one", "two"):
        said = f'a word Some("{word}")'
        assert built(alice, here, A_WORD=word) == ("local", f"{here} {said}")
        assert built(bob, there, A_WORD=word) == ("hit-remote", f"{there} {said}")
    assert built(bob, there) == ("local", f"{there} a word None")


def test_a_path_in_the_source_is_no_name(people: tuple[Developer, Developer]) -> None:
    """It says the same wherever it is compiled, this checkout's path or not."""
    alice, bob = people
    literal = str(alice.directory / "ws")
    here, there = package(Path(literal), literal), package(bob.directory / "ws", literal)
    assert built(alice, here) == ("local", f"{literal} {literal} None")
    assert built(bob, there) == ("local", f"{there} {literal} None")
