"""Build scripts and macros that find what lies beside their sources, wherever these say a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import developer
from scripts import built, package

from wrapper.rustc.arguments import parse
from wrapper.source_names import finds_by_name

SAYS = "pub fn name() -> &'static str { file!() }"
CALLER = "pub fn name() -> &'static str { std::panic::Location::caller().file() }"
READ = """
    let beside = std::path::Path::new(name).parent().unwrap().join("data.txt");
    let text = std::fs::read_to_string(beside).unwrap();
"""
SCRIPT = f"""#[path = "build/name.rs"] mod name;
fn main() {{
    let name = name::name(); {READ}
    println!("cargo::rustc-env=SAID={{}}", text.trim());
}}"""
MACRO = f"""#[proc_macro] pub fn said(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{
    let name = file!(); {READ}
    format!("{{:?}}", text.trim()).parse().unwrap()
}}"""


@pytest.mark.cargo
@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", [SAYS, CALLER])
def test_a_module_of_a_dependencys_script(tmp_path: Path, module: str) -> None:
    other = package(tmp_path / "other", "other", SCRIPT)
    (other / "build").mkdir()
    (other / "build" / "name.rs").write_text(module)
    (other / "build" / "data.txt").write_text("beside")
    (other / "src" / "main.rs").unlink()
    (other / "src" / "lib.rs").write_text('pub const SAID: &str = env!("SAID");')
    assert _said(tmp_path, "other::SAID") == {"beside"}


@pytest.mark.cargo
@pytest.mark.timeout(300)
def test_a_macro_of_elsewhere(tmp_path: Path) -> None:
    other = package(tmp_path / "other", "other", "fn main() {}", "[lib]\nproc-macro = true\n")
    (other / "src" / "main.rs").unlink()
    (other / "src" / "lib.rs").write_text(MACRO)
    (other / "src" / "data.txt").write_text("beside")
    assert _said(tmp_path, "other::said!()") == {"beside"}


def _said(directory: Path, expression: str) -> set[str]:
    """What a program says, compiled and from the cache, that uses the package `other`, which lies
    beside its workspace."""
    more = '[dependencies]\nother.path = "../other"\n[workspace]\n'
    main = f'fn main() {{ println!("{{}}", {expression}); }}'
    app = package(directory / "app", "app", "fn main() {}", more, main)
    with developer(directory / "dev", None) as dev:
        return {built(dev, app)[1] for _ in range(2)}


@pytest.mark.parametrize(
    ("source", "text", "options", "is_so"),
    [
        ("build.rs", "file!()", "build-script", True),
        ("build.rs", "// file!()", "build-script", False),
        ("build.rs", 'fn main() { println!("{}", "file!()") }', "build-script", False),
        ("build.rs", "use std::panic::Location;", "build-script", True),
        ("build/x.rs", "file!()", "build-script", True),
        ("beside.rs", "file!()", "build-script", True),
        ("src/lib.rs", "file!()", "build-script", False),
        ("src/lib.rs", "file!()", "proc-macro", True),
        ("src/a/b.rs", "file!()", "proc-macro", True),
        ("src/lib.rs", "quote! { file!() }", "proc-macro", False),
        ("src/lib.rs", "macro_rules! quote {} quote! { file!() }", "proc-macro", True),
        ("src/lib.rs", "file!()", "lib", False),
    ],
)
def test_whose_sources_ask(
    tmp_path: Path, source: str, text: str, options: str, is_so: bool
) -> None:
    for name in ("build.rs", "src/lib.rs", source):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / source).write_text(text)
    script = f"--crate-name build_script_build --crate-type bin {tmp_path}/build.rs"
    library = f"--crate-name x --crate-type {options} {tmp_path}/src/lib.rs"
    words = script if options == "build-script" else library
    assert _finds_by_name(words, tmp_path) == is_so


def test_a_registrys_macro_is_not_looked_through(tmp_path: Path) -> None:
    package_ = tmp_path / "registry/src/index-0123456789abcdef/x-1.0.0"
    (package_ / "src").mkdir(parents=True)
    (package_ / "src/lib.rs").write_text("file!()")
    words = f"--crate-name x --crate-type proc-macro {package_}/src/lib.rs"
    assert not _finds_by_name(words, package_)


def _finds_by_name(words: str, package_: Path) -> bool:
    invocation = parse(["/t/bin/rustc", *words.split(), "--out-dir", "/t", "--emit=link"])
    return finds_by_name(invocation, str(package_))
