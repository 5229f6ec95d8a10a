"""The same work is known again, however cargo was asked for it and wherever sources come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from developers import Developer, outcomes, write

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

PACKAGE = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'
SAYS = 'fn main() { println!("{}", dep::said()); }'


def built(dev: Developer, workspace: Path, *arguments: str) -> list[dict[str, Any]]:
    """The units of a build from nothing, when all is kept that will be."""
    shutil.rmtree(workspace / "target", ignore_errors=True)
    units = dev.build(workspace, *arguments)
    dev.run("cargo", "distbuild", "stop", cwd=workspace)
    return units


def said(dev: Developer, workspace: Path) -> str:
    return dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip()


def members(directory: Path, dep: str) -> Path:
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app", "dep"]\n',
        "app/Cargo.toml": PACKAGE.replace("{}", "app") + '[dependencies]\ndep.path = "../dep"\n',
        "app/src/main.rs": SAYS,
        "dep/Cargo.toml": PACKAGE.replace("{}", "dep"),
        "dep/src/lib.rs": dep,
    }
    return write(directory, files)


def test_a_part_of_a_workspace(dev: Developer) -> None:
    """cargo says to which packages it was asked for; it names units the same."""
    workspace = members(dev.directory / "ws", "pub fn said() -> u8 { 7 }")
    assert outcomes(built(dev, workspace)) == {"local"}
    assert outcomes(built(dev, workspace, "-p", "app")) == {"hit-local"}


def test_a_part_of_a_workspace_for_code_that_asks(dev: Developer) -> None:
    source = 'pub fn said() -> String { format!("{:?}", option_env!("CARGO_PRIMARY_PACKAGE")) }'
    workspace = members(dev.directory / "ws", source)
    for outcome in ("local", "hit-local"):
        for arguments, wanted in (((), 'Some("1")'), (("-p", "app"), "None")):
            units = built(dev, workspace, *arguments)
            (unit,) = (each for each in units if each["crate"] == "dep")
            assert (unit["outcome"], said(dev, workspace)) == (outcome, wanted)


def test_clippy_looks_at_the_packages_that_it_was_asked_for(dev: Developer) -> None:
    workspace = members(dev.directory / "ws", "pub fn said() -> u8 { return 7; }")
    for arguments, wanted in ((("-p", "app"), False), ((), True), (("-p", "app"), False)):
        shutil.rmtree(workspace / "target", ignore_errors=True)
        command = ("cargo", "distbuild", "clippy", *arguments, "--", "--no-deps")
        done = dev.run(*command, cwd=workspace)
        assert ("needless_return" in done.stderr) == wanted, done.stderr
        dev.run("cargo", "distbuild", "stop", cwd=workspace)


def test_what_clippy_does_not_look_at(dev: Developer) -> None:
    """It is compiled without, whatever clippy is told, as by `cargo check`."""
    workspace = write(
        dev.directory / "ws",
        {
            "Cargo.toml": f'{PACKAGE.format("app")}[dependencies]\ndep.path = "../dep"\n',
            "src/lib.rs": "",
            "../dep/Cargo.toml": PACKAGE.format("dep"),
            "../dep/src/lib.rs": "",
        },
    )
    seen = []
    for command in (["check"], ["clippy"], ["clippy", "--", "-Dwarnings"], ["clippy"]):
        shutil.rmtree(workspace / "target", ignore_errors=True)
        dev.run("cargo", "distbuild", *command, cwd=workspace, check=True)
        seen.append({str(unit["crate"]): unit["outcome"] for unit in dev.units(workspace)})
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
    assert seen == [
        {"dep": "local", "app": "local"},
        {"dep": "hit-local", "app": "local"},
        {"dep": "hit-local", "app": "local"},
        {"dep": "hit-local", "app": "hit-local"},
    ]


@pytest.mark.parametrize("flags", ["-Ctarget-feature=+crt-static", "-Clinker-plugin-lto"])
def test_what_linkers_read_of_the_system(dev: Developer, flags: str) -> None:
    """glibc's archives, which scripts name; and how many processors there are."""
    workspace = write(
        dev.directory / "ws",
        {"Cargo.toml": PACKAGE.format("app"), "src/main.rs": "fn main() {}"},
    )
    dev.extra = {"RUSTFLAGS": flags}
    for outcome in ("local", "hit-local"):
        units = built(dev, workspace, "--target", "x86_64-unknown-linux-gnu")
        assert outcomes(units) == {outcome}, units


@pytest.mark.parametrize("vendor", ["../vend", "vend", "{}/vend"])
def test_a_vendor_directory(dev: Developer, vendor: str) -> None:
    """cargo leaves `..` in the names of what lies in one beside the workspace."""
    workspace = dev.directory / "ws"
    place = (workspace / vendor.replace("{}", str(dev.directory))).resolve()
    settings = f'[source.crates-io]\nreplace-with = "v"\n[source.v]\ndirectory = "{vendor}"\n'
    files = {
        "Cargo.toml": PACKAGE.replace("{}", "app") + '[dependencies]\ndep = "0.1"\n',
        "src/main.rs": SAYS,
        ".cargo/config.toml": settings.replace("{}", str(dev.directory)),
    }
    write(workspace, files)
    crate = {
        "dep/Cargo.toml": PACKAGE.replace("{}", "dep"),
        "dep/.cargo-checksum.json": json.dumps({"files": {}}),
        "dep/words/word": "first",
        "dep/build.rs": 'fn main() { println!("cargo:rerun-if-changed=words");\n'
        'println!("cargo:rustc-env=WORD={}", std::fs::read_to_string("words/word").unwrap()); }',
        "dep/src/lib.rs": 'pub fn said() -> &\'static str { env!("WORD") }',
    }
    write(place, crate)
    for word, outcome in (("first", "local"), ("first", "hit-local"), ("second", "local")):
        (place / "dep/words/word").write_text(word)
        (library,) = (each for each in built(dev, workspace) if each["kind"] == "lib")
        stats = json.loads(dev.run("cargo", "distbuild", "stats", "--json", cwd=workspace).stdout)
        (run,) = stats["runs"]
        assert library["outcome"] == run["outcome"] == outcome, stats
        assert said(dev, workspace) == word


@pytest.mark.parametrize("read", ['include_str!("../../word")', "mac::text!()"])
def test_a_file_beside_a_package_of_a_repository(dev: Developer, read: str) -> None:
    repository = dev.directory / "repository"
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["dep", "mac"]\n',
        "dep/Cargo.toml": PACKAGE.replace("{}", "dep") + '[dependencies]\nmac.path = "../mac"\n',
        "dep/src/lib.rs": f"pub fn said() -> &'static str {{ {read} }}",
        "mac/Cargo.toml": PACKAGE.replace("{}", "mac") + "[lib]\nproc-macro = true\n",
        "mac/src/lib.rs": """use proc_macro::TokenStream;
#[proc_macro]
pub fn text(_: TokenStream) -> TokenStream {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let text = std::fs::read_to_string(package + "/../word").unwrap();
    format!("{text:?}").parse().unwrap()
}""",
    }
    write(repository, files)
    workspace = dev.directory / "ws"
    dependency = f'[dependencies]\ndep.git = "file://{repository}"\n'
    write(workspace, {"Cargo.toml": PACKAGE.replace("{}", "app") + dependency})
    write(workspace, {"src/main.rs": SAYS})
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    dev.run(*git, "init", "--quiet", cwd=repository)
    for word in ("first", "second"):
        (repository / "word").write_text(word)
        dev.run("git", "add", "--all", cwd=repository)
        dev.run(*git, "commit", "--quiet", "--message", word, cwd=repository)
        dev.run("cargo", "update", cwd=workspace)
        dev.run("cargo", "fetch", cwd=workspace)  # what is made while it compiles is not kept
        for outcome in ("local", "hit-local"):
            assert outcomes(built(dev, workspace)) == {outcome}
            assert said(dev, workspace) == word


def test_a_shared_library_of_the_workspace(dev: Developer) -> None:
    """The linker finds it in a directory that the key has, by a link as such libraries have."""
    workspace = dev.directory / "ws"
    files = {
        "Cargo.toml": PACKAGE.replace("{}", "app"),
        "src/main.rs": 'unsafe extern "C" { fn zq_word() -> i32; }\n'
        'fn main() { println!("{}", unsafe { zq_word() }); }',
        "build.rs": """fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rustc-link-search=native={here}/native");
    println!("cargo:rustc-link-lib=dylib=zqword");
    println!("cargo:rerun-if-changed=build.rs");
}""",
        "native/word.c": "",
    }
    write(workspace, files)
    native = workspace / "native"
    for value, outcome in ((1, "local"), (1, "hit-local"), (2, "local")):
        (native / "word.c").write_text(f"int zq_word(void) {{ return {value}; }}")
        (native / "libzqword.so").unlink(missing_ok=True)
        command = ("cc", "-shared", "-fPIC", "-o", "libzqword.so.1", "word.c")
        dev.run(*command, cwd=native)
        (native / "libzqword.so").symlink_to("libzqword.so.1")
        (unit,) = (each for each in built(dev, workspace) if each["kind"] == "bin")
        assert unit["outcome"] == outcome, unit
        program = workspace / "target/debug/app"
        done = dev.run(program, cwd=workspace, LD_LIBRARY_PATH=str(native))
        assert done.stdout == f"{value}\n"


def test_a_note_beside_libraries(dev: Developer) -> None:
    """rustc lists the directories of libraries; the notes of other build systems are no inputs."""
    workspace = dev.directory / "ws"
    files = {
        "Cargo.toml": PACKAGE.replace("{}", "app"),
        "src/main.rs": "fn main() {}",
        "build.rs": """fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/libzq.la"), "a note").unwrap();
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rerun-if-changed=build.rs");
}""",
    }
    write(workspace, files)
    assert outcomes(built(dev, workspace)) == {"local"}
    assert outcomes(built(dev, workspace)) == {"hit-local"}


def of_system(directory: Path, word: str) -> Path:
    """A program with a library that names the system's own directory, as `pg_config` does."""
    said = run(["cc", "-print-file-name=librt.a"], capture_output=True, text=True, check=True)
    script = f"""fn main() {{
    println!("cargo:rustc-link-search=native={Path(said.stdout.strip()).resolve().parent}");
    println!("cargo:rustc-link-lib={word}");
    println!("cargo:rerun-if-changed=build.rs");
}}"""
    workspace = members(directory, "pub fn said() -> u8 { 7 }")
    return write(workspace, {"dep/build.rs": script})


def test_a_directory_of_the_systems_libraries(dev: Developer) -> None:
    workspace = of_system(dev.directory / "ws", "dylib=m")
    for outcome in ("local", "hit-local"):
        assert outcomes(built(dev, workspace)) == {outcome}
        assert said(dev, workspace) == "7"


def test_a_relative_directory_is_not_the_systems(dev: Developer) -> None:
    workspace = dev.directory / "ws"
    script = 'fn main() { println!("cargo:rustc-link-search=native=lib"); }'
    files = {"Cargo.toml": PACKAGE.replace("{}", "app"), "build.rs": script}
    write(workspace, files | {"src/main.rs": "fn main() {}"})
    for outcome in ("local", "hit-local"):
        (unit,) = (each for each in built(dev, workspace) if each["kind"] == "bin")
        assert unit["outcome"] == outcome
    write(workspace, {"lib/x": ""})
    (unit,) = (each for each in built(dev, workspace) if each["kind"] == "bin")
    assert unit["outcome"] == "local"


def test_a_library_of_the_systems_that_is_copied(dev: Developer) -> None:
    workspace = of_system(dev.directory / "ws", "static=rt")
    for _ in range(2):
        units = built(dev, workspace)
        (library,) = (each for each in units if (each["crate"], each["kind"]) == ("dep", "lib"))
        assert library["outcome"] == "local"
        assert library["reason"].endswith(", which has no shared name")


def test_a_build_directory_of_its_own(dev: Developer) -> None:
    """What lies in `target` is not all that cargo makes (cargo 1.91)."""
    config = '[build]\nbuild-dir = "{cargo-cache-home}/build/{workspace-path-hash}"\n'
    for name, outcome in (("here", "local"), ("else where", "hit-local")):
        workspace = members(dev.directory / name, "pub fn said() -> u8 { 7 }")
        write(workspace, {".cargo/config.toml": config})
        assert outcomes(built(dev, workspace)) == {outcome}
        assert not (workspace / "target/debug/deps").exists()
        assert said(dev, workspace) == "7"
        again = dev.run("cargo", "build", "-v", cwd=workspace)
        assert "Running" not in again.stderr, "plain cargo finds nothing to do"


@pytest.mark.parametrize("named", ["../made", "ws/../../made"])
def test_a_target_directory_that_is_named_upwards(dev: Developer, named: str) -> None:
    script = """fn main() {
    println!("cargo:rustc-link-search=native={}", std::env::var("OUT_DIR").unwrap());
    println!("cargo:rerun-if-changed=build.rs");
}"""
    for place, outcome in (("one", "local"), ("another", "hit-local")):
        workspace = members(dev.directory / place / "ws", "pub fn said() -> u8 { 7 }")
        write(workspace, {"dep/build.rs": script, "ws/.keep": ""})
        units = dev.build(workspace, "--target-dir", named)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        assert {each["outcome"] for each in units} == {outcome}, units


def test_a_script_that_goes_through_all_variables(dev: Developer) -> None:
    script = """fn main() {
    let tags = std::env::vars().filter(|(name, _)| name.contains("_OWN_")).map(|(_, tag)| tag);
    println!("cargo:rustc-env=TAGS={}", tags.collect::<String>());
    println!("cargo:rerun-if-changed=build.rs");
}"""
    source = 'pub fn said() -> &\'static str { env!("TAGS") }'
    workspace = write(members(dev.directory / "ws", source), {"dep/build.rs": script})
    for tag, outcome in (("one", "local"), ("two", "local"), ("one", "hit-local")):
        dev.extra = {"SOME_OWN_TAG": tag}
        built(dev, workspace)
        done = dev.run("cargo", "distbuild", "stats", "--json", cwd=workspace)
        (script_run,) = json.loads(done.stdout)["runs"]
        assert (script_run["outcome"], said(dev, workspace)) == (outcome, tag)
