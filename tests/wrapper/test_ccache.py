"""ccache stands in the C compiler's place on many machines, and is none of a build's inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, outcomes
from scripts import package, runs

from wrapper.ccache import behind_ccache

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
    assert behind_ccache("cc", f"{own}:/usr/bin") == "/usr/bin/cc"
    assert behind_ccache("cc", f":/none:{own}:{own}:/usr/bin:/bin") == "/usr/bin/cc"
    assert behind_ccache("cc", f"/usr/bin:{own}") is None
    assert behind_ccache("cc", str(own)) is None
    assert behind_ccache("cc", "") is None


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
