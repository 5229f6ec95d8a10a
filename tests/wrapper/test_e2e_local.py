"""What is compiled on this machine is kept: for its user, and for others through a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import Developer, developer
from running import running_server

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

MACRO = """
use proc_macro::TokenStream;
#[proc_macro]
pub fn text_of(input: TokenStream) -> TokenStream {
    let name = input.to_string();
    let path = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join(name.trim_matches('"'));
    format!("{:?}", std::fs::read_to_string(&path).unwrap().trim()).parse().unwrap()
}
"""


def package(directory: Path, name: str, source: str, more: str = "") -> None:
    (directory / "src").mkdir(parents=True)
    (directory / "Cargo.toml").write_text(
        f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{more}'
    )
    (directory / "src" / "lib.rs").write_text(source)


def workspace(directory: Path, main: str) -> Path:
    """A program `app` that may use the macro `text_of`."""
    package(directory / "macros", "macros", MACRO, "[lib]\nproc-macro = true\n")
    package(directory / "app", "app", "", '[dependencies]\nmacros = { path = "../macros" }\n')
    (directory / "app" / "src" / "lib.rs").unlink()
    (directory / "app" / "src" / "main.rs").write_text(main)
    (directory / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "macros"]\nresolver = "2"\n'
    )
    return directory


def built(dev: Developer, checkout: Path) -> tuple[str, str]:
    """Where the program came from in a fresh build, and what it says."""
    dev.run("cargo", "clean", cwd=checkout)
    units = {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
    return units["app"], dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developer]:
    with developer(tmp_path / "dev", None) as person:
        yield person


def test_another_checkout_of_the_same_user(dev: Developer, tmp_path: Path) -> None:
    main = 'fn main() { println!("{} {}", file!(), macros::text_of!("note")); }'
    for name, outcome in (("one", "local"), ("one", "hit-local"), ("two", "hit-local")):
        if not (tmp_path / name).exists():
            workspace(tmp_path / name, main)
        (tmp_path / name / "app" / "note").write_text("a note")
        assert built(dev, tmp_path / name) == (outcome, "app/src/main.rs a note")


def test_a_file_that_a_macro_reads_in_the_package(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", 'fn main() { println!("{}", macros::text_of!("note")); }')
    for note, outcome in (("one", "local"), ("two", "local"), ("one", "hit-local")):
        (checkout / "app" / "note").write_text(note)
        assert built(dev, checkout) == (outcome, note)


def test_a_file_that_a_macro_reads_elsewhere(dev: Developer, tmp_path: Path) -> None:
    """No key can name it, so the unit is compiled again each time."""
    (tmp_path / "note").write_text("one")
    main = f'fn main() {{ println!("{{}}", macros::text_of!("{tmp_path}/note")); }}'
    checkout = workspace(tmp_path / "w", main)
    assert built(dev, checkout) == ("local", "one")
    (tmp_path / "note").write_text("two")
    assert built(dev, checkout) == ("local", "two")


def test_what_holds_this_checkouts_path(dev: Developer, tmp_path: Path) -> None:
    """It is a hit where it is right, and there alone."""
    main = 'fn main() { println!("{}", env!("CARGO_MANIFEST_DIR")); }'
    for name, outcome in (("one", "local"), ("one", "hit-local"), ("two", "local")):
        checkout = tmp_path / name
        if not checkout.exists():
            workspace(checkout, main)
        assert built(dev, checkout) == (outcome, str(checkout / "app"))


def test_switching_between_two_states(dev: Developer, tmp_path: Path) -> None:
    """As with branches: what was once compiled is there, also when nothing is cleaned."""
    checkout = workspace(tmp_path / "w", "")
    source = checkout / "app" / "src" / "main.rs"
    seen = []
    for state in ("a", "b", "a", "b"):
        source.write_text(f'fn main() {{ println!("{state}"); }}')
        units = {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}
        assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout == f"{state}\n"
        seen.append(units["app"])
        dev.run("cargo", "distbuild", "stop", cwd=checkout)
    assert seen == ["local", "local", "hit-local", "hit-local"]


def test_a_server_without_workers_shares_what_was_compiled_elsewhere(tmp_path: Path) -> None:
    main = 'fn main() { println!("{}", macros::text_of!("note")); }'
    with running_server(tmp_path / "data", "--workers", "0") as server:
        for name, outcome in (("alice", "local"), ("bob", "hit-remote")):
            with developer(tmp_path / name, server.url) as person:
                checkout = workspace(tmp_path / f"{name}s place", main)
                (checkout / "app" / "note").write_text("a note")
                assert built(person, checkout) == (outcome, "a note")


def test_errors_are_shown_once(dev: Developer, tmp_path: Path) -> None:
    """A unit that fails in the sandbox is compiled again without; its words come once."""
    checkout = workspace(tmp_path / "w", 'fn main() { macros::text_of!("gone"); wrong!(); }')
    ours = dev.run("cargo", "distbuild", "build", cwd=checkout, check=False)
    dev.run("cargo", "clean", cwd=checkout)
    plain = dev.run("cargo", "build", cwd=checkout, check=False)
    said = [line for line in ours.stderr.splitlines() if "Distbuild" not in line]
    assert ours.returncode == plain.returncode == 101
    assert "\n".join(said).strip() == plain.stderr.strip()
    source = checkout / "app" / "src" / "main.rs"
    source.write_text('fn main() { println!("right"); }')
    assert built(dev, checkout) == ("local", "right")
