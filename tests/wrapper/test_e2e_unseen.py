"""What a build reads by ways that are easily overlooked: a change there is never met by a hit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from developers import Developer

from tests.wrapper.reason_texts import provokes

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

MACRO = """use proc_macro::TokenStream;
#[proc_macro] pub fn text(_: TokenStream) -> TokenStream {
    let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/data/x.txt";
    format!("{:?}", std::fs::read_to_string(path).unwrap().trim()).parse().unwrap()
}
#[proc_macro] pub fn variable(name: TokenStream) -> TokenStream {
    let name = name.to_string();
    format!("{:?}", std::env::var(name.trim_matches('"')).unwrap_or_default()).parse().unwrap()
}
"""
PACKAGE = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'
SAYS = 'fn main() { println!("{}", env!("SAID")); }'


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files below the workspace, links among them, and a change after which the program says
    `two` in place of `one`; `{}` as a file's content, or a variable's, is the word. Of what is
    `touched` the time alone is changed."""

    files: Mapping[str, str]
    links: Mapping[str, str] = field(default_factory=dict)
    changing: str = ""
    variable: str = ""
    touched: str = ""


def says(expression: str) -> str:
    """A build script that has the program say something."""
    return f'fn main() {{ println!("cargo:rustc-env=SAID={{}}", {expression}); }}'


CASES = {
    "a link into what packages leave out": Case(
        files={
            "app/src/main.rs": 'fn main() { println!("{}", include_str!("x.txt").trim()); }',
            "app/node_modules/x.txt": "{}",
        },
        links={"app/src/x.txt": "../node_modules/x.txt"},
        changing="app/node_modules/x.txt",
    ),
    "a link through a directory that leads out": Case(
        files={
            "app/src/main.rs": 'fn main() { println!("{}", include_str!("x.txt").trim()); }',
            "outside/x.txt": "{}",
        },
        links={"app/ext": "../outside", "app/src/x.txt": "../ext/x.txt"},
        changing="outside/x.txt",
    ),
    "the parent of a link": Case(
        files={
            "app/src/main.rs": 'fn main() { println!("{}", include_str!("sub/../x.txt").trim()); }',
            "shared/deep/y.txt": "",
            "shared/x.txt": "{}",
        },
        links={"app/src/sub": "../../shared/deep"},
        changing="shared/x.txt",
    ),
    "what a macro reads by such a link": Case(
        files={"app/src/main.rs": 'fn main() { println!("{}", mac::text!()); }', "out/x.txt": "{}"},
        links={"app/ext": "../out", "app/data/x.txt": "../ext/x.txt"},
        changing="out/x.txt",
    ),
    "a variable that a macro reads, named in no .rs file": Case(
        files={
            "app/src/main.rs": 'include!("body.inc"); fn main() { println!("{}", v()); }',
            "app/src/body.inc": 'fn v() -> &\'static str { mac::variable!("ZQ_WORD") }',
        },
        variable="ZQ_WORD",
    ),
    "a variable that a macro reads for a build script": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/build.rs": says('mac::variable!("ZQ_WORD")'),
        },
        variable="ZQ_WORD",
    ),
    "a locale that a build script names": Case(
        files={"app/src/main.rs": SAYS, "app/build.rs": says('std::env::var("LANG").unwrap()')},
        variable="LANG",
    ),
    "a name in a listed directory that packages leave out": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/build.rs": says(
                'if std::fs::read_dir("data").unwrap().count() > 1 { "two" } else { "one" }'
            ),
            "app/data/a": "",
        },
        changing="app/data/b.profraw",
    ),
    "the time of a file that a build script tells": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/build.rs": """use std::time::UNIX_EPOCH;
fn main() {
    let time = std::fs::metadata("data.txt").unwrap().modified().unwrap();
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let made = std::env::var("OUT_DIR").unwrap() + "/seconds.rs";
    std::fs::write(made, format!("const SECONDS: u64 = {seconds};")).unwrap();
    println!("cargo:rustc-env=SAID={}", if seconds == 1500000000 { "one" } else { "two" });
}""",
            "app/data.txt": "the same",
        },
        touched="app/data.txt",
    ),
    "a file that assembly in a library includes": Case(
        files={
            "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app", "mac", "lib"]\n',
            "app/Cargo.toml": PACKAGE.replace("{}", "app")
            + '[dependencies]\nlib.path = "../lib"\n',
            "app/src/main.rs": 'fn main() { println!("{}", lib::said()); }',
            "lib/Cargo.toml": PACKAGE.replace("{}", "lib"),
            "lib/src/lib.rs": """core::arch::global_asm!(
    ".section .rodata.zq,\\"a\\"", ".globl zq", "zq: .incbin \\"data/word\\"", ".byte 0",
    ".previous"
);
unsafe extern "C" { static zq: u8; }
pub fn said() -> &'static str {
    unsafe { std::ffi::CStr::from_ptr(&raw const zq as *const _).to_str().unwrap() }
}""",
            "data/word": "{}",
        },
        changing="data/word",
    ),
    "a variable of the session in a script that a build script runs": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/gen.sh": 'echo "$LOGNAME"\n',
            "app/build.rs": """use std::process::Command;
fn main() {
    let said = Command::new("sh").arg("gen.sh").output().unwrap().stdout;
    println!("cargo:rustc-env=SAID={}", String::from_utf8(said).unwrap().trim());
}""",
        },
        variable="LOGNAME",
    ),
    "a variable by which cargo tells build scripts": Case(
        files={
            "app/src/main.rs": 'fn main() { println!("{}", mac::variable!("PROFILE")); }',
        },
        variable="PROFILE",
    ),
    "a variable that a build script names in small letters": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/build.rs": says('std::env::var("zqs_small".to_uppercase()).unwrap_or_default()'),
        },
        variable="ZQS_SMALL",
    ),
    "a variable that C in a build script names": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/build.rs": """extern "C" { fn getenv(name: *const u8) -> *const i8; }
fn main() {
    let name: Vec<u8> = b"MALL_SQZ\\0".iter().rev().skip(1).chain(b"\\0").copied().collect();
    let value = unsafe { std::ffi::CStr::from_ptr(getenv(name.as_ptr())) };
    println!("cargo:rustc-env=SAID={}", value.to_str().unwrap());
}""",
        },
        variable="ZQS_LLAM",
    ),
    "a variable of a program that a build script compiled": Case(
        files={
            "app/src/main.rs": SAYS,
            "app/probe.c": "#include <stdio.h>\n#include <stdlib.h>\n"
            'int main(void) { puts(getenv("ZQPROBE")); return 0; }\n',
            "app/build.rs": """use std::process::Command;
fn main() {
    let probe = std::env::var("OUT_DIR").unwrap() + "/probe.exe";
    assert!(Command::new("cc").args(["probe.c", "-o", &probe]).status().unwrap().success());
    let said = Command::new(&probe).output().unwrap().stdout;
    println!("cargo:rustc-env=SAID={}", String::from_utf8(said).unwrap().trim());
}""",
        },
        variable="ZQPROBE",
    ),
}


def write(workspace: Path, files: Mapping[str, str], word: str) -> None:
    for name, content in files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("{}", word) if content == "{}" else content)


def make_workspace(workspace: Path, case: Case) -> None:
    package = PACKAGE
    uses = '[dependencies]\nmac.path = "../mac"\n[build-dependencies]\nmac.path = "../mac"\n'
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app", "mac"]\n',
        "mac/Cargo.toml": package.replace("{}", "mac") + "[lib]\nproc-macro = true\n",
        "mac/src/lib.rs": MACRO,
        "app/Cargo.toml": package.replace("{}", "app") + uses,
    }
    write(workspace, {**files, **case.files}, "one")
    for name, target in case.links.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).symlink_to(target)
    if case.touched:
        os.utime(workspace / case.touched, (1_500_000_000, 1_500_000_000))


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_seen(dev: Developer, name: str) -> None:
    case, workspace = CASES[name], dev.directory / "ws"
    make_workspace(workspace, case)

    def said(word: str) -> str:
        given = {case.variable: word} if case.variable else {}
        dev.build(workspace, **given)
        subprocess.run(["rm", "-r", workspace / "target" / "debug"], check=True)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be
        dev.build(workspace, **given)
        return dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip()

    assert said("one") == "one"
    if case.changing:
        write(workspace, {case.changing: case.files.get(case.changing, "new")}, "two")
    if case.touched:
        os.utime(workspace / case.touched, (1_500_001_000, 1_500_001_000))
    assert said("two") == "two"


def test_a_native_library_below_the_root_package(dev: Developer) -> None:
    """`target` is no part of a package, and yet what a build script left there has its place."""
    workspace = dev.directory / "ws"
    package = PACKAGE
    build = """use std::process::Command;
fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let object = format!("{out}/n.o");
    assert!(Command::new("cc").args(["-c", "n.c", "-o", &object]).status().unwrap().success());
    let archive = format!("{out}/libzqn.a");
    assert!(Command::new("ar").args(["crsD", &archive, &object]).status().unwrap().success());
    println!("cargo:rerun-if-changed=n.c");
    println!("cargo:rustc-link-lib=static=zqn");
    println!("cargo:rustc-link-search=native={out}");
}"""
    files = {
        "Cargo.toml": package.replace("{}", "app") + '[workspace]\n[dependencies]\nn.path = "n"\n',
        "src/main.rs": 'fn main() { println!("{}", n::value()); }',
        "n/Cargo.toml": package.replace("{}", "n"),
        "n/n.c": "int zqn(void) { return 7; }\n",
        "n/build.rs": build,
        "n/src/lib.rs": 'unsafe extern "C" { safe fn zqn() -> i32; }\n'
        "pub fn value() -> i32 { zqn() }\n",
    }
    write(workspace, files, "")
    for outcome in ("local", "hit-local"):
        subprocess.run(["rm", "-rf", workspace / "target"], check=True)
        units = dev.build(workspace)
        assert {unit["outcome"] for unit in units} == {outcome}, units
        assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout == "7\n"
        dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be


def test_a_linker_script_in_the_workspaces_root(dev: Developer) -> None:
    """The linker looks there before it looks where the build script put one."""
    workspace = dev.directory / "ws"
    build = """fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::copy("zq.x", format!("{out}/zq.x")).unwrap();
    println!("cargo:rerun-if-changed=zq.x");
    println!("cargo:rustc-link-search={out}");
    println!("cargo:rustc-link-arg-bins=-Tzq.x");
}"""
    main = """unsafe extern "C" { static zq: u8; }
fn main() { println!("{}", unsafe { &raw const zq as usize }); }"""
    script = "SECTIONS {{ zq = {}; }} INSERT AFTER .bss;"
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\n',
        "app/Cargo.toml": PACKAGE.replace("{}", "app"),
        "app/build.rs": build,
        "app/src/main.rs": main,
        "app/zq.x": script.format(111),
    }
    write(workspace, files, "")
    for value, outcome in ((111, "local"), (111, "hit-local"), (222, "local"), (222, "local")):
        if value == 222:
            write(workspace, {"zq.x": script.format(222)}, "")
        subprocess.run(["rm", "-rf", workspace / "target"], check=True)
        units = dev.build(workspace, RUSTFLAGS="-C relocation-model=static")
        assert {unit["kind"]: unit["outcome"] for unit in units}["bin"] == outcome
        assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout == f"{value}\n"
        dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be
    reason = next(unit["reason"] for unit in units if unit["kind"] == "bin")
    provokes("links with …, and … lies in the workspace's root", reason)


def test_clippy_asks_cargo_of_other_members(dev: Developer) -> None:
    workspace = dev.directory / "ws"
    more = 'description = "d"\nlicense = "MIT"\nrepository = "r"\nreadme = "x"\nkeywords = ["a"]\n'
    more += 'categories = ["a"]\n'
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app", "other"]\n',
        "app/Cargo.toml": PACKAGE.replace("{}", "app") + more,
        "app/src/lib.rs": "",
        "other/Cargo.toml": PACKAGE.replace("{}", "other") + more,
        "other/src/lib.rs": "",
    }
    write(workspace, files, "")
    clippy = ("cargo", "distbuild", "clippy", "-p", "app", "--", "-D")
    for lint in ("clippy::cargo_common_metadata", "clippy::all"):
        for time in range(2):
            subprocess.run(["rm", "-rf", workspace / "target"], check=True)
            dev.run(*clippy, lint, cwd=workspace)
            (unit,) = dev.units(workspace)
            assert unit["outcome"] == ("hit-local" if time else "local"), unit
            dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be
    (workspace / "other/Cargo.toml").write_text(PACKAGE.replace("{}", "other"))
    subprocess.run(["rm", "-rf", workspace / "target"], check=True)
    done = dev.run(*clippy, "clippy::cargo_common_metadata", cwd=workspace, check=False)
    assert done.returncode != 0
