"""ccache stands in the C compiler's place on many machines, and is none of a build's inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, outcomes
from scripts import package, runs

from wrapper.ccache import behind_ccache, switched_off

CCACHE = """#!/bin/sh
[ -n "$CCACHE_DISABLE" ] || echo called >>"$CCACHE_DIR/log"
case $0 in *ccache) program=$1; shift ;; *) program=${0##*/} ;; esac
exec "/usr/bin/$program" "$@"
"""
SCRIPT = """use std::process::Command;
fn main() {
    let object = std::env::var("OUT_DIR").unwrap() + "/x.o";
    println!("cargo::rerun-if-changed=x.c");
    let compiler = std::env::var("MY_CC").unwrap_or("cc".into());
    let mut words = compiler.split(' ').chain(["-c", "x.c", "-o", object.as_str()]);
    assert!(Command::new(words.next().unwrap()).args(words).status().unwrap().success());
    println!("cargo::rustc-link-arg={object}");
}"""
MAIN = 'extern "C" { fn f() -> i32; } fn main() { println!("{}", unsafe { f() }); }'


def ccache(directory: Path) -> Path:
    """A directory for PATH, as distributions have it."""
    directory.mkdir()
    (directory / "ccache").write_text(CCACHE)
    (directory / "ccache").chmod(0o755)
    (directory / "cc").symlink_to("ccache")
    return directory


def test_what_is_behind_it(tmp_path: Path) -> None:
    own = ccache(tmp_path / "own")
    assert behind_ccache("cc", {"PATH": f"{own}:/usr/bin"}) == "/usr/bin/cc"
    assert behind_ccache("cc", {"PATH": f"/none:{own}:{own}:/usr/bin:/bin"}) == "/usr/bin/cc"
    for path in (f"/usr/bin:{own}", str(own), "", f"bin:{own}:/usr/bin", f"{own}::/usr/bin"):
        assert behind_ccache("cc", {"PATH": path}) is None
    assert switched_off({"PATH": str(own)}) == {"CCACHE_DISABLE": "1"}
    assert switched_off({"PATH": str(tmp_path)}) == {}


@pytest.mark.parametrize("place", [".ccache", ".config/ccache", ".cache/ccache", "own"])
def test_one_that_is_told_of_another_compiler(tmp_path: Path, place: str) -> None:
    own = ccache(tmp_path / "bin")
    given = {"PATH": f"{own}:/usr/bin", "HOME": str(tmp_path), "CCACHE_DIR": f"{tmp_path}/own"}
    assert behind_ccache("cc", given) == "/usr/bin/cc"
    assert behind_ccache("cc", {**given, "CCACHE_PREFIX": "distcc"}) is None
    settings = tmp_path / place / "ccache.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("max_size = 5G\n# compiler = x\n")
    assert behind_ccache("cc", given) == "/usr/bin/cc"
    settings.write_text("max_size = 5G\n compiler = clang\n")
    assert behind_ccache("cc", given) is None


@pytest.mark.cargo
@pytest.mark.timeout(600)
@pytest.mark.parametrize("compiler", ["cc", "ccache cc"])
def test_what_is_compiled_and_linked_is_kept(dev: Developer, tmp_path: Path, compiler: str) -> None:
    own = ccache(tmp_path / "own")
    app = package(tmp_path / "app", "app", SCRIPT, main=MAIN)
    (app / "x.c").write_text("int f(void) { return 7; }")
    path = f"{own}:{dev.environment['PATH']}"
    given = {"PATH": path, "CCACHE_DIR": str(own), "MY_CC": compiler}
    seen = []
    for _ in range(2):
        dev.run("cargo", "clean", cwd=app)
        units = dev.build(app, **given)
        seen.append((outcomes(units), runs(dev, app)["app"]["outcome"]))
        dev.run("cargo", "distbuild", "stop", cwd=app)
    assert seen == [({"local"}, "local"), ({"hit-local"}, "hit-local")]
    assert dev.run(app / "target/debug/app", cwd=app).stdout == "7\n"
    assert not (own / "log").exists()
