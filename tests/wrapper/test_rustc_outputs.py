"""The wrapper's idea of what rustc writes, held against what rustc and cargo really do."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from wrapper.rustc.arguments import Invocation, NotUnderstood, Probe, parse
from wrapper.rustc.outputs import (
    debug_objects,
    dep_info_name,
    library_name,
    metadata_name,
    output_names,
    unit_kind,
)

LIBRARY = "pub fn f() -> u32 { 1 }\n"
PROGRAM = 'fn main() { println!("{}", 1); }\n'
TEST = "#[test]\nfn works() { assert_eq!(1 + 1, 2); }\n"


def invocation(text: str, driver: str = "/toolchain/bin/rustc") -> Invocation:
    return parse([driver, *shlex.split(text)])


@pytest.mark.parametrize(
    ("source", "extra"),
    [
        (LIBRARY, "--crate-type lib --emit=dep-info,metadata,link"),
        (LIBRARY, "--crate-type lib --emit=dep-info,metadata"),
        (LIBRARY, "--crate-type lib --emit=link"),
        (LIBRARY, "--crate-type lib --emit=dep-info,link -C extra-filename=-0a1b"),
        (LIBRARY, "--crate-type dylib --emit=dep-info,link -C prefer-dynamic"),
        (LIBRARY, "--crate-type cdylib --crate-type staticlib --crate-type rlib --emit=link"),
        (PROGRAM, "--crate-type bin --emit=dep-info,link -C extra-filename=-0a1b"),
        (PROGRAM, "--crate-type bin --emit=dep-info,metadata -C extra-filename=-0a1b"),
        (PROGRAM, "--emit=dep-info,link"),
        (TEST, "--test --emit=dep-info,link -C extra-filename=-0a1b"),
        (PROGRAM, "--crate-type bin --emit=link -g -C split-debuginfo=packed"),
        (TEST, "--test --emit=link -g -C split-debuginfo=packed"),
        (LIBRARY, "--crate-type lib --emit=dep-info,metadata,link -g -C split-debuginfo=packed"),
        (LIBRARY, "--crate-type cdylib --emit=link -g -C split-debuginfo=packed"),
        (PROGRAM, "--crate-type bin --emit=link -g -C split-debuginfo=unpacked"),
        (LIBRARY, "--crate-type lib --emit=link -g -C split-debuginfo=unpacked"),
        (LIBRARY, "--crate-type lib --emit=link -C opt-level=3 -C linker-plugin-lto"),
    ],
)
def test_names_are_those_that_rustc_writes(tmp_path: Path, source: str, extra: str) -> None:
    """A compile whose files cannot be foretold must not be understood."""
    (tmp_path / "x.rs").write_text(source)
    out = tmp_path / "out"
    out.mkdir()
    text = f"--crate-name app_x --edition=2021 x.rs {extra} --out-dir {out}"
    subprocess.run(["rustc", *shlex.split(text)], cwd=tmp_path, check=True, timeout=100)
    written = sorted(path.name for path in out.iterdir())
    try:
        found = invocation(text)
    except NotUnderstood:
        return
    assert sorted([*output_names(found), *debug_objects(found)]) == written
    if "dep-info" in found.emit:
        assert dep_info_name(found) in written
    if "metadata" in found.emit:
        assert metadata_name(found) in written


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("--crate-type bin", {"app_x.wasm"}),
        ("--crate-type cdylib --crate-type rlib", {"app_x.wasm", "libapp_x.rlib"}),
        ("--test", {"app_x.wasm"}),
        ("--crate-type staticlib", {"libapp_x.a"}),
    ],
)
def test_names_for_wasm(options: str, names: set[str]) -> None:
    """As seen; the target's standard library is not everywhere."""
    text = f"--crate-name app_x x.rs {options} --emit=link --out-dir /o"
    assert library_name("app_x", "wasm32-unknown-unknown") == "app_x.wasm"
    assert library_name("app_x", "x86_64-unknown-linux-gnu") == "libapp_x.so"
    found = invocation(f"{text} --target wasm32-unknown-unknown")
    assert set(output_names(found)) == names


def test_names_that_a_specification_says(tmp_path: Path) -> None:
    said = {"exe-suffix": ".elf", "dll-prefix": "", "dll-suffix": ".dll"}
    file = tmp_path / "mine.json"
    text = "--crate-name app_x x.rs --emit=link --out-dir /o --target"
    types = " --crate-type cdylib --crate-type bin --crate-type rlib"
    for content in ("{}", "no JSON", "[]"):
        file.write_text(content)
        plain = ("app_x", "libapp_x.rlib", "libapp_x.so")
        assert output_names(invocation(f"{text} {file} {types}")) == plain
    file.write_text(json.dumps(said))
    found = output_names(invocation(f"{text} {file} {types}"))
    assert found == ("app_x.dll", "app_x.elf", "libapp_x.rlib")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("--crate-name x --crate-type lib", "lib"),
        ("--crate-name x --crate-type rlib", "lib"),
        ("--crate-name x --crate-type bin", "bin"),
        ("--crate-name x --crate-type proc-macro", "proc-macro"),
        ("--crate-name x --crate-type cdylib", "cdylib"),
        ("--crate-name x --test", "test"),
        ("--crate-name build_script_x --crate-type bin", "build-script"),
        ("--crate-name build_script_y --crate-type bin", "bin"),
        ("--crate-name build_script_x --crate-type lib", "lib"),
        ("--crate-name x --cfg test", "bench"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert unit_kind(invocation(f"{text} x.rs --emit=link --out-dir /t")) == kind


@pytest.mark.parametrize(
    ("source", "out_dir", "kind"),
    [
        ("build/make-it.rs", "/t/debug/build/app-0123", "build-script"),
        ("build/make-it.rs", "/t/debug/build/app/0123/out", "build-script"),
        ("src/bin/make-it.rs", "/t/debug/deps", "bin"),
        ("examples/make-it.rs", "/t/debug/examples", "bin"),
        ("src/bin/build-script-make-it.rs", "/t/debug/build/app/0123/out", "bin"),
    ],
)
def test_programs_that_are_called_like_build_scripts(source: str, out_dir: str, kind: str) -> None:
    text = f"--crate-name build_script_make_it --crate-type bin {source} --emit=link"
    assert unit_kind(invocation(f"{text} --out-dir {out_dir}")) == kind


FILES = {
    "Cargo.toml": """
[workspace]
resolver = "2"
members = ["app", "mac"]

[profile.release]
lto = "thin"
split-debuginfo = "packed"
debug = 1

[profile.bench]
strip = "symbols"
""",
    "app/Cargo.toml": """
[package]
name = "app-one"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["rlib", "cdylib", "staticlib"]

[[bench]]
name = "plain"
harness = false

[dependencies]
mac = { path = "../mac" }
""",
    "app/build.rs": """fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=BUILT=yes");
}
""",
    "app/src/lib.rs": '#[mac::unchanged]\npub fn f() -> &\'static str { env!("BUILT") }\n' + TEST,
    "app/src/main.rs": 'fn main() { println!("{}", app_one::f()); }\n',
    "app/src/bin/other-name.rs": PROGRAM,
    "app/tests/it.rs": '#[test]\nfn it() { assert!(!env!("CARGO_BIN_EXE_app-one").is_empty()); }\n',
    "app/benches/plain.rs": PROGRAM,
    "app/examples/show.rs": PROGRAM,
    "mac/Cargo.toml": """
[package]
name = "mac"
version = "0.1.0"
edition = "2021"

[lib]
proc-macro = true
""",
    "mac/src/lib.rs": """use proc_macro::TokenStream;
#[proc_macro_attribute]
pub fn unchanged(_: TokenStream, item: TokenStream) -> TokenStream { item }
""",
}
COMMANDS = (
    "check --all-targets",
    "build --all-targets",
    "test --no-run",
    "build --release",
    "clippy --all-targets",
)
# not in sh: dash would drop CARGO_BIN_EXE_app-one from the environment
RECORDER = f"""#!{sys.executable} -IS
import os, sys, tempfile
fd, _ = tempfile.mkstemp(dir=os.environ["RECORDS"])
os.write(fd, b"".join(os.fsencode(a) + b"\\0" for a in sys.argv[1:]))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def calls(tmp_path: Path) -> list[list[str]]:
    """Everything that cargo asks of a wrapper in a few builds."""
    directory = tmp_path
    for name, content in FILES.items():
        path = directory / "ws" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    recorder = directory / "recorder"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    records = directory / "records"
    records.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CARGO_", "RUST"))}
    kept |= {"RUSTC_WRAPPER": str(recorder), "RECORDS": str(records), "CARGO_TERM_QUIET": "true"}
    for command in COMMANDS:
        cargo = ["cargo", *command.split(), "--offline"]
        subprocess.run(cargo, cwd=directory / "ws", env=kept, check=True, timeout=300)
    return [path.read_bytes().decode().split("\0")[:-1] for path in sorted(records.iterdir())]


def compiles(calls: list[list[str]]) -> list[Invocation]:
    """The calls that are no questions; every call must be understood."""
    found = []
    for call in calls:
        try:
            found.append(parse(call))
        except Probe:
            assert "-" in call or "-vV" in call, call
    return found


def check_outputs(units: list[Invocation]) -> None:
    """All foretold files are there, and in `deps` no others."""
    foretold: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        foretold[unit.out_dir].update(output_names(unit))
    for out_dir, names in foretold.items():
        written = {path.name for path in Path(out_dir).iterdir() if path.is_file()}
        assert names <= written, f"not in {out_dir}: {names - written}"
        if out_dir.endswith("/deps"):
            assert written == names


def check_externs(units: list[Invocation], target: Path) -> None:
    """Dependencies are files of this build, but for the compiler's own crates."""
    paths = [extern.path for unit in units for extern in unit.externs]
    assert None in paths  # proc_macro
    for path in filter(None, paths):
        assert path.startswith(f"{target}/")
        assert os.path.isfile(path)


@pytest.mark.cargo
@pytest.mark.timeout(600)
def test_command_lines_of_cargo(calls: list[list[str]], tmp_path: Path) -> None:
    """Real builds of a workspace with every kind of target."""
    units = compiles(calls)
    kinds = {unit_kind(unit) for unit in units}
    assert kinds >= {"lib", "bin", "test", "bench", "proc-macro", "build-script"}
    assert {os.path.basename(unit.driver) for unit in units} == {"clippy-driver", "rustc"}
    assert any("cdylib" in unit.crate_types for unit in units)
    check_outputs(units)
    check_externs(units, tmp_path / "ws" / "target")
    assert all("dep-info" in unit.emit for unit in units)
    assert any(unit.incremental for unit in units)
    for unit in units:
        assert not any("incremental" in (value or "") for _, value in unit.options)
