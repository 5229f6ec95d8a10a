"""A build script may link what it made into the target directory, as cxx-build does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from developers import Developer, developer, write
from running import running_server
from scripts import runs

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

SCRIPT = """
use std::{env, fs, os::unix::fs::symlink, path::Path};

fn main() {
    let (here, out) = (env::var("CARGO_MANIFEST_DIR").unwrap(), env::var("OUT_DIR").unwrap());
    let (here, out) = (Path::new(&here), Path::new(&out));
    let target = out.ancestors().find(|each| each.join("CACHEDIR.TAG").exists()).unwrap();
    let depth = out.strip_prefix(here).unwrap().components().count();
    symlink("../".repeat(depth), out.join("crate")).unwrap();
    let said = fs::read_to_string(out.join("crate/said.txt")).unwrap();
    fs::write(out.join("lib.h"), &said).unwrap();
    let shared = target.join("cxxbridge/app");
    fs::create_dir_all(&shared).unwrap();
    let link = shared.join("lib.h");
    if link.exists() {
        fs::remove_file(&link).unwrap();
    }
    let own = Path::new("../..").join(out.strip_prefix(target).unwrap()).join("lib.h");
    symlink(own, &link).unwrap();
    assert_eq!(fs::read_to_string(&link).unwrap(), said);
    MORE
    println!("cargo:rustc-env=SAID={}", said.trim());
    println!("cargo:rerun-if-changed=build.rs\\ncargo:rerun-if-changed=said.txt");
}
"""
FILES = {
    "Cargo.toml": '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n',
    "src/main.rs": 'fn main() { println!("{}", env!("SAID")); }',
    "build.rs": SCRIPT.replace("MORE", ""),
    "said.txt": "one\n",
}


def links(checkout: Path) -> dict[str, str]:
    """All links below the target directory, and what they say."""
    found = (path for path in (checkout / "target").rglob("*") if path.is_symlink())
    return {str(path.relative_to(checkout)): os.readlink(path) for path in found}


def outcome(dev: Developer, checkout: Path) -> tuple[str, str]:
    """Where the run came from in a fresh build, and what the program says."""
    shutil.rmtree(checkout / "target", ignore_errors=True)
    dev.build(checkout)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)
    run = runs(dev, checkout)["app"]["outcome"]
    return run, dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip()


def test_another_developers_links_lead_to_the_same(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "one", server.url) as one,
        developer(tmp_path / "and" / "two", server.url) as two,
    ):
        first = write(one.directory / "w", FILES)
        second = write(two.directory / "deep" / "er" / "w", FILES)
        assert outcome(one, first) == ("local", "one")
        made = links(first)
        assert len(made) == 2
        assert outcome(one, first) == ("hit-local", "one")
        assert links(first) == made
        assert outcome(two, second) == ("hit-remote", "one")
        assert links(second) == made
        assert (second / "target/cxxbridge/app/lib.h").read_text() == "one\n"
        done = two.run("cargo", "build", cwd=second)
        assert "Compiling" not in done.stderr
        (second / "said.txt").write_text("two\n")
        assert outcome(two, second) == ("local", "two")
        shutil.rmtree(second / "target")
        two.run("cargo", "build", cwd=second)
        assert links(second) == made


def test_whoever_writes_more_there_is_run_each_time(dev: Developer) -> None:
    more = 'fs::write(shared.join("more"), "more").unwrap();'
    checkout = write(dev.directory / "w", {**FILES, "build.rs": SCRIPT.replace("MORE", more)})
    assert outcome(dev, checkout) == ("local", "one")
    assert outcome(dev, checkout) == ("local", "one")
    assert (checkout / "target/cxxbridge/app/more").read_text() == "more"
    assert "cxxbridge/app/more" in runs(dev, checkout)["app"]["reason"]
