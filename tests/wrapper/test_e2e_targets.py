"""Targets that a file specifies: there is no standard library for them, and one less to build."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from developers import Developer, developer, outcomes, outputs
from running import running_server

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

NO_CORE = "#![feature(no_core, lang_items)]\n#![no_core]\n"
SIZED = (
    """#[lang = "pointee_sized"] pub trait PointeeSized {}
#[lang = "meta_sized"] pub trait MetaSized: PointeeSized {}
#[lang = "sized"] pub trait Sized: MetaSized {}
""",
    '#[lang = "sized"] pub trait Sized {}\n',
)
"""What a compiler of today wants to have of `core`, and what older ones want."""
VALUE = '#[lang = "copy"] pub trait Copy {}\nimpl Copy for i32 {}\npub fn value() -> i32 { 41 }\n'
USER = "pub fn value() -> i32 { base::value() }\n"
MANIFEST = '[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n'
BUILD = ("build", "-Zjson-target-spec", "--target", "mine.json")


def rustc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RUSTC_BOOTSTRAP": "1"}
    return subprocess.run(
        ["rustc", *arguments], env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def core(directory: Path) -> str:
    """As much of `core` as this compiler needs."""
    for sized in SIZED:
        (directory / "probe.rs").write_text(NO_CORE + sized + VALUE)
        options = ("--crate-type=lib", "--emit=metadata", f"--out-dir={directory}")
        if rustc(*options, directory / "probe.rs").returncode == 0:
            return NO_CORE + sized + VALUE
    raise AssertionError("this compiler wants another core")


def workspace(directory: Path, sources: str) -> Path:
    """`base`, and `user`, which uses it, for a target like this machine's."""
    for name, source, more in (
        ("base", sources, ""),
        ("user", NO_CORE + USER, '[dependencies]\nbase = { path = "../base" }\n'),
    ):
        (directory / name / "src").mkdir(parents=True)
        (directory / name / "src" / "lib.rs").write_text(source)
        (directory / name / "Cargo.toml").write_text(MANIFEST.format(name=name) + more)
    members = '[workspace]\nmembers = ["base", "user"]\nresolver = "2"\n'
    (directory / "Cargo.toml").write_text(members)
    specify(directory)
    return directory


def specify(checkout: Path, **more: str) -> None:
    printed = rustc("-Zunstable-options", "--print=target-spec-json").stdout
    (checkout / "mine.json").write_text(json.dumps(json.loads(printed) | more))


def build(dev: Developer, checkout: Path) -> set[str]:
    dev.run("cargo", "distbuild", *BUILD, cwd=checkout, RUSTC_BOOTSTRAP="1")
    return outcomes(dev.units(checkout))


def libraries(checkout: Path) -> dict[str, bytes]:
    found = outputs(checkout / "target/mine/debug", "*.r*")
    return {path.name: path.read_bytes() for path in found}


def test_libraries_are_shared_by_the_files_content(tmp_path: Path) -> None:
    sources = core(tmp_path)
    with (
        running_server(tmp_path / "server", "--workers", "1") as server,
        developer(tmp_path / "alice", server.url) as alice,
        developer(tmp_path / "bob", server.url) as bob,
    ):
        here = workspace(tmp_path / "here", sources)
        there = workspace(tmp_path / "there is another place", sources)
        assert build(alice, here) == {"remote"}
        assert build(bob, there) == {"hit-remote"}
        made = libraries(here)
        assert libraries(there) == made
        assert {name.rpartition(".")[2] for name in made} == {"rlib", "rmeta"}
        said = bob.run("cargo", *BUILD, "-v", cwd=there, RUSTC_BOOTSTRAP="1").stderr
        assert "Compiling" not in said and "Dirty" not in said

        specify(there, cpu="x86-64-v2")
        bob.run("cargo", "clean", cwd=there)
        assert build(bob, there) <= {"remote", "local"}
        assert not set(libraries(there).values()) & set(made.values())
        specify(there)
        bob.run("cargo", "clean", cwd=there)
        assert build(bob, there) == {"hit-local"}
        assert libraries(there) == made
