"""Runs of build scripts whose programs hold their package's path by `env!`."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
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


SOURCES = """pub fn sources() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("text")
}"""
ASKS = """fn main() {
    let text = std::fs::read_to_string(text_src::sources()).unwrap();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=HERE={}", text.trim());
    println!("cargo:rustc-env=WORD={}", text_src::sources().display());
}"""


def registry(directory: Path, name: str, files: dict[str, str]) -> None:
    """A registry with one package, of version 1.0.0."""
    crate = directory / f"{name}-1.0.0.crate"
    directory.mkdir()
    with tarfile.open(crate, "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0.0/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    index = directory / "index" / name[:2] / name[2:4] / name
    index.parent.mkdir(parents=True)
    checksum = hashlib.sha256(crate.read_bytes()).hexdigest()
    row = {"name": name, "vers": "1.0.0", "deps": [], "cksum": checksum, "features": {}}
    index.write_text(json.dumps({**row, "yanked": False}))


def test_what_depends_on_a_crate_of_sources(
    people: tuple[Developer, Developer], tmp_path: Path
) -> None:
    """As lua-src and openssl-src are: where their sources lie stands in the program."""
    manifest = '[package]\nname = "text-src"\nversion = "1.0.0"\nedition = "2021"\n'
    files = {"Cargo.toml": manifest, "src/lib.rs": SOURCES, "text": "of text-src"}
    registry(tmp_path / "registry", "text-src", files)
    seen = []
    for dev in (*people, people[0]):
        checkout = dev.directory / ("again" if (dev.directory / "ws").exists() else "ws")
        write(
            checkout,
            {
                "Cargo.toml": f'{MANIFEST}[build-dependencies]\ntext-src = "1"\n',
                "build.rs": ASKS,
                "src/main.rs": MAIN,
                ".cargo/config.toml": "[source.crates-io]\nreplace-with = 'own'\n"
                f"[source.own]\nlocal-registry = '{tmp_path}/registry'\n",
            },
        )
        outcome, said = built(dev, checkout)
        text, _, path = said.rpartition(" ")
        assert text == "of text-src"
        assert path.startswith(f"{dev.directory}/cargo/registry/src/")
        seen.append(outcome)
    assert seen == ["local", "hit-remote", "hit-local"]
