"""A workspace whose crates take as long to compile as they are told, and no CPU for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_NAP = """\
use proc_macro::TokenStream;

/// Sleeps so many milliseconds while the compiler waits for what this expands to: nothing.
#[proc_macro]
pub fn nap(milliseconds: TokenStream) -> TokenStream {
    let milliseconds = milliseconds.to_string().parse().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    TokenStream::new()
}
"""


def write_workspace(directory: Path, layers: Sequence[tuple[int, float]]) -> Path:
    """Write a workspace. Each layer: how many crates, and the seconds that each of them takes.

    Crates are `layer<i>_<j>`, both from 1; each depends on all of the layer before. The program
    `total` prints how many crates there are.
    """
    _crate(directory, "nap", "[lib]\nproc-macro = true\n", "lib.rs", _NAP)
    before: list[str] = []
    for number, (count, seconds) in enumerate(layers, 1):
        names = [f"layer{number}_{each}" for each in range(1, count + 1)]
        for name in names:
            source = f"nap::nap!({int(seconds * 1000)});\n{_sum(before, name)}"
            _crate(directory, name, _dependencies(["nap", *before]), "lib.rs", source)
        before = names
    terms = _terms(before)
    main = f'fn main() {{\n    println!("{{}}", ({terms}).len());\n}}\n'
    _crate(directory, "total", _dependencies(before), "main.rs", main)
    (directory / "Cargo.toml").write_text('[workspace]\nmembers = ["*"]\nresolver = "2"\n')
    return directory


def _sum(before: Sequence[str], name: str) -> str:
    """A function that gives the names of this crate and of all below it."""
    return (
        "pub fn names() -> std::collections::BTreeSet<&'static str> {\n"
        f'    let mut names = {_terms(before)};\n    names.insert("{name}");\n    names\n}}\n'
    )


def _terms(crates: Sequence[str]) -> str:
    chained = "".join(f".chain({name}::names())" for name in crates)
    return f"std::iter::empty::<&'static str>(){chained}.collect::<std::collections::BTreeSet<_>>()"


def _dependencies(names: Sequence[str]) -> str:
    return "[dependencies]\n" + "".join(f'{name} = {{ path = "../{name}" }}\n' for name in names)


def _crate(directory: Path, name: str, more: str, file: str, source: str) -> None:
    (directory / name / "src").mkdir(parents=True)
    (directory / name / "src" / file).write_text(source)
    (directory / name / "Cargo.toml").write_text(
        f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n\n{more}'
    )
