"""Packages with build scripts, and what becomes of their runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from developers import Developer, developer

CURIOUS = r"""
use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or("none".into()).trim().into()
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let here = env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo::rerun-if-env-changed=DECLARED");
    let mut names: Vec<_> = fs::read_dir("data").unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let _ = fs::remove_file(format!("{out}/link"));
    symlink(format!("{here}/linked"), format!("{out}/link")).unwrap();
    let helper = Command::new("helper-of-test").output().map(|o| o.stdout).unwrap_or_default();
    let said = [
        read("data/file.txt"), read("data/sub/absent.txt"), format!("{names:?}"),
        env::var("DECLARED").unwrap_or_default(), env::var("UNDECLARED").unwrap_or_default(),
        read(format!("{}/.noterc", env::var("HOME").unwrap())), read(format!("{out}/link/text")),
        read("../.git/HEAD"), String::from_utf8(helper).unwrap().trim().into(),
        env::var("PROFILE").unwrap(), env::var("CARGO_FEATURE_MORE").is_ok().to_string(),
    ];
    println!("cargo::rustc-env=SAID={}", said.join("|"));
    let target = env::var("TARGET").unwrap().replace('-', "_");
    let flags = env::var(format!("CFLAGS_{target}")).unwrap_or_default();
    run(Command::new("cc").args(["-c", "-g", "-O1", "-fPIC"]).args(flags.split_whitespace())
        .arg(format!("{here}/c/value.c")).arg("-o").arg(format!("{out}/value.o")));
    run(Command::new("ar").arg("crsD").arg(format!("{out}/libvalue.a")).arg(format!("{out}/value.o")));
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=static=value");
}
"""
MAIN = """
extern "C" { fn value() -> i32; }
fn main() { println!("{}|{}", env!("SAID"), unsafe { value() }); }
"""


def package(directory: Path, name: str, script: str, more: str = "", main: str = "") -> Path:
    (directory / "src").mkdir(parents=True)
    (directory / "Cargo.toml").write_text(
        f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{more}'
    )
    (directory / "src" / "main.rs").write_text(main or "fn main() {}")
    (directory / "build.rs").write_text(script)
    return directory


def curious(directory: Path) -> Path:
    """A workspace whose one build script reads things of every kind."""
    app = package(directory / "app", "app", CURIOUS, "[features]\nmore = []\n", MAIN)
    for name, text in (
        ("data/file.txt", "one"), ("data/sub/x", ""), ("linked/text", "linked"),
        ("c/value.h", "#define VALUE 1\n"),
        ("c/value.c", '#include "value.h"\nint value(void) { return VALUE; }\n'),
    ):  # fmt: skip
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    (directory / "Cargo.toml").write_text('[workspace]\nmembers = ["app"]\nresolver = "2"\n')
    (directory / ".git").mkdir()
    (directory / ".git" / "HEAD").write_text("ref: one")
    return directory


def runs(dev: Developer, cwd: Path) -> dict[str, dict[str, Any]]:
    """The runs of build scripts in the last build, by package."""
    done = dev.run("cargo", "distbuild", "stats", "--json", cwd=cwd)
    return {run["crate"]: run for run in json.loads(done.stdout)["runs"]}


def built(dev: Developer, checkout: Path, *arguments: str, **environment: str) -> tuple[str, str]:
    """Where the run of app's script came from in a fresh build, and what the program says."""
    dev.run("cargo", "clean", cwd=checkout)
    dev.build(checkout, *arguments, **environment)
    outcome = runs(dev, checkout)["app"]["outcome"]
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
    (program,) = checkout.glob("target/*/app")
    return outcome, dev.run(program, cwd=checkout).stdout.strip()


@contextmanager
def someone(directory: Path, remote: str | None) -> Iterator[Developer]:
    """A developer with a HOME of their own, and the toolchains of everybody."""
    (directory / "home").mkdir(parents=True)
    rustup = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))
    home = str(directory / "home")
    with developer(directory, remote, HOME=home, RUSTUP_HOME=rustup) as person:
        yield person
