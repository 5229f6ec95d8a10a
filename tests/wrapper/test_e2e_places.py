"""Files as plain cargo would have them: found by their sources' names, with their modes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import Developer, of_scripts, outcomes
from running import BIN
from scripts import built, package, runs, someone

from tests.wrapper.reason_texts import provokes
from tests.wrapper.test_e2e_local import without_watcher
from wrapper.layout import is_of_script

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

MAIN = 'fn main() { println!("{}", env!("SAID")); }'
BESIDE = """fn main() {
    let beside = std::path::Path::new(file!()).parent().unwrap().join("data.txt");
    println!("cargo::rustc-env=SAID={}", std::fs::read_to_string(beside).unwrap());
}"""
OF_HOME = """fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/text"), std::env::var("HOME").unwrap() + "/x").unwrap();
    println!("cargo::rustc-env=SAID={}", std::fs::read_to_string(format!("{out}/text")).unwrap());
}"""
OF_ABOVE = """fn main() {
    let (out, here) = (std::env::var("OUT_DIR").unwrap(), std::env::current_dir().unwrap());
    std::fs::write(format!("{out}/text"), here.parent().unwrap().to_str().unwrap()).unwrap();
    println!("cargo::rustc-env=SAID={}", std::fs::read_to_string(format!("{out}/text")).unwrap());
}"""
PROBE = """fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/probe.rs"), "pub fn f() {}").unwrap();
    let mut rustc = std::process::Command::new(std::env::var("RUSTC").unwrap());
    rustc.args(["-g", "--crate-type=lib", "--out-dir", &out]).arg(format!("{out}/probe.rs"));
    println!("cargo::rustc-env=SAID={}", rustc.status().unwrap().success());
    println!("cargo::rerun-if-changed=build.rs");
}"""
MODES = """use std::os::unix::fs::PermissionsExt;
fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    for mode in [0o600, 0o444, 0o750] {
        let path = format!("{out}/{mode:o}");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    std::fs::write(format!("{out}/new"), "x").unwrap();
    println!("cargo::rustc-env=SAID=made");
}"""


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developer]:
    with someone(tmp_path / "dev", None) as person:
        yield person


@pytest.mark.parametrize(("script", "is_watched"), [("", True), (BESIDE, True), ("", False)])
def test_what_lies_beside_a_dependencys_source(
    dev: Developer, tmp_path: Path, script: str, is_watched: bool
) -> None:
    """Dependencies outside of the workspace have absolute names for cargo, and others here."""
    if not is_watched:
        without_watcher(dev, tmp_path)
    other = package(tmp_path / "other", "other", script or "fn main() {}")
    (other / "data.txt").write_text("data")
    (other / "src" / "main.rs").unlink()
    source = 'env!("SAID")' if script else 'include_str!(concat!(file!(), ".txt"))'
    (other / "src" / "lib.rs").write_text(f"pub const SAID: &str = {source};")
    (other / "src" / "lib.rs.txt").write_text("data")
    more = '[dependencies]\nother.path = "../other"\n[workspace]\n'
    main = 'fn main() { println!("{}", other::SAID); }'
    app = package(tmp_path / "app", "app", "fn main() {}", more, main)
    for _ in range(2):
        dev.run("cargo", "clean", cwd=app)
        reasons = {unit["crate"]: unit["reason"] for unit in dev.build(app)}
        dev.run("cargo", "distbuild", "stop", cwd=app)
        assert dev.run(app / "target/debug/app", cwd=app).stdout.strip() == "data"
        reasons = {unit["crate"]: unit["reason"] for unit in dev.units(app)}
        if not script:
            said = reasons["other"].rpartition("not kept: ")[2]
            provokes("it looks for files by its sources' names", said)


def test_what_holds_a_users_paths(dev: Developer, tmp_path: Path) -> None:
    """It is for all of the user's checkouts, and for nobody else's."""
    for name, outcome in (("one", "local"), ("two", "hit-local")):
        app = package(tmp_path / name, "app", OF_HOME, "[workspace]\n", MAIN)
        assert built(dev, app)[0] == outcome
        if outcome == "local":
            assert "a path of this user" in runs(dev, app)["app"]["reason"]
    dev.extra["HOME"] = str(tmp_path / "another")
    assert built(dev, app) == ("local", f"{tmp_path}/another/x")


@pytest.mark.parametrize("is_used", [False, True])
def test_what_a_compiler_probe_leaves(dev: Developer, tmp_path: Path, is_used: bool) -> None:
    """A library with the path of the checkout, which others may do without where nobody uses it."""
    script = PROBE
    if is_used:
        script = script.replace(
            "cargo::rerun", 'cargo::rustc-link-search={out}");\nprintln!("cargo::rerun'
        )
    for name in ("one", "two"):
        app = package(tmp_path / name, "app", script, "[workspace]\n", MAIN)
        outcome = "hit-local" if name == "two" and not is_used else "local"
        assert built(dev, app) == (outcome, "true")
        (probe,) = of_scripts(app / "target/debug", "app", "out/libprobe.rlib")
        assert probe.exists()


def test_what_lies_above_a_checkout(dev: Developer, tmp_path: Path) -> None:
    for name in ("one", "two"):
        app = package(tmp_path / name / "app", "app", OF_ABOVE, "[workspace]\n", MAIN)
        assert built(dev, app) == ("local", str(tmp_path / name))
    assert built(dev, app) == ("hit-local", str(tmp_path / "two"))


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


LOOKS_UP = """fn main() {
    let is_there = std::path::Path::new("../.git").exists();
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/looked"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    println!("cargo::rustc-env=SAID={is_there}");
}"""


def test_a_checkout_that_is_made_beside_meanwhile(dev: Developer, tmp_path: Path) -> None:
    """Whoever looks for a repository looks in the directories above, too."""
    app = package(tmp_path / "src" / "app", "app", LOOKS_UP, "[workspace]\n", MAIN)
    with subprocess.Popen(
        [BIN / "cargo-distbuild", "build"], cwd=app, env=dev.environment
    ) as build:
        while not list((app / "target").rglob("looked")) and build.poll() is None:
            time.sleep(0.05)
        (tmp_path / "src" / "other").mkdir()
    assert build.returncode == 0
    dev.run("cargo", "distbuild", "stop", cwd=app)
    assert built(dev, app) == ("hit-local", "false")
    (tmp_path / "src" / ".git").mkdir()
    assert built(dev, app) == ("local", "true")


def test_modes(dev: Developer, tmp_path: Path) -> None:
    """Those that a script gave, and else what its caller's umask leaves, which is not the
    daemon's."""
    app = package(tmp_path / "app", "app", MODES, "[workspace]\n", MAIN)
    build = f"umask 0$1; exec {BIN / 'cargo-distbuild'} build"
    for umask, outcome in (("22", "local"), ("77", "hit-local"), ("22", "hit-local")):
        dev.run("cargo", "clean", cwd=app)
        dev.run("sh", "-c", build, "sh", umask, cwd=app)
        (run,) = runs(dev, app).values()
        assert run["outcome"] == outcome
        found = of_scripts(app / "target/debug", "app", "out")
        (out,) = (each for each in found if is_of_script(str(each), str(app / "target")))
        hidden = 0o777 & ~int(umask, 8)
        assert modes(out) == {"600": 0o600, "444": 0o444, "750": 0o750, "new": hidden & 0o666}
        assert stat.S_IMODE((app / "target/debug/app").stat().st_mode) == hidden
        if umask == "22":
            dev.run("sh", "-c", f"{BIN / 'cargo-distbuild'} stats", cwd=app)


SEES = """import sys; from wrapper.daemon.caller import sees_the_same
print(sees_the_same(int(sys.argv[1])))"""


@pytest.mark.parametrize("mounts", [False, True])
def test_another_container(tmp_path: Path, mounts: bool) -> None:
    """Same files, as where only the network is another, or others under the same names."""
    mount = f"mount -t tmpfs none {tmp_path} &&" if mounts else ""
    apart = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m"]
    with subprocess.Popen(
        [*apart, "sh", "-c", f"{mount} echo ready && exec sleep 60"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        done = subprocess.run(
            [sys.executable, "-c", SEES, str(other.pid)], capture_output=True, text=True, check=True
        )
        other.kill()
    assert done.stdout.strip() == str(not mounts)


def test_a_call_from_another_container(dev: Developer, tmp_path: Path) -> None:
    """It is compiled with its own files, and not with the daemon's."""
    app = package(tmp_path / "app", "app", BESIDE, "[workspace]\n", MAIN)
    (app / "data.txt").write_text("outer")
    assert built(dev, app)[1] == "outer"
    (app / "build.rs").touch()
    dev.build(app)  # so that there is a daemon
    inner = tmp_path / "inner"
    inner.write_text("inner")
    apart = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m"]
    script = (
        f"mount --bind {inner} {app}/data.txt && touch {app}/data.txt && {BIN}/cargo-distbuild"
        f" build && {app}/target/debug/app"
    )
    done = dev.run(*apart, "sh", "-c", script, cwd=app)
    assert done.stdout.strip() == "inner"
    assert "the daemon of this directory sees other files" in done.stderr


def test_a_home_in_the_workspace(dev: Developer, tmp_path: Path) -> None:
    """As a build service that keeps nothing but what lies in the checkout has it."""
    script = 'fn main() { println!("cargo::rustc-env=SAID=made"); }'
    checkout = package(tmp_path / "w", "app", script, main=MAIN)
    dev.extra = {**dev.extra, "DISTBUILD_HOME": str(checkout / ".cache")}
    seen = [built(dev, checkout) for _ in range(2)]
    assert seen == [("local", "made"), ("hit-local", "made")]
    assert {unit["outcome"] for unit in dev.build(checkout, "--release")} == {"local"}
    dev.run("cargo", "clean", cwd=checkout)
    assert {unit["outcome"] for unit in dev.build(checkout, "--release")} == {"hit-local"}
    dev.run("cargo", "distbuild", "stop", cwd=checkout)


def test_a_literal_that_happens_to_be_a_path_of_this_place(dev: Developer, tmp_path: Path) -> None:
    """In a container the checkout may lie where the program is going to run."""
    literal = f"{tmp_path}/app/assets"
    script = f'fn main() {{ println!("cargo::rustc-env=SAID={literal}"); }}'
    seen = []
    for name in ("app", "app", "other"):
        checkout = tmp_path / name
        if not checkout.exists():
            package(checkout, "app", script, main=MAIN)
        seen.append(built(dev, checkout))
    assert seen == [("local", literal), ("hit-local", literal), ("local", literal)]


def test_a_checkout_that_was_moved(dev: Developer) -> None:
    """cargo takes what lies in its target directory for fresh: what is new stands on that."""
    one = dev.checkout("one")
    dev.build(one)
    copied = shutil.copytree(one, one.with_name("copied"), symlinks=True)
    moved = one.rename(one.with_name("moved"))
    seen = []
    for checkout in (copied, moved):
        with (checkout / "crates/lib-math/src/lib.rs").open("a") as source:
            source.write("// edited\n")
        units = dev.build(checkout)
        assert not [unit["reason"] for unit in units if "elsewhere" in (unit["reason"] or "")]
        seen.append((len(units), outcomes(units)))
    assert seen == [(seen[0][0], {"local"}), (seen[0][0], {"hit-local"})]


def test_a_checkout_that_was_moved_away_from_its_target(dev: Developer) -> None:
    one, target = dev.checkout("one"), str(dev.directory / "target")
    dev.build(one, CARGO_TARGET_DIR=target)
    moved = one.rename(one.with_name("moved"))
    with (moved / "crates/lib-math/src/lib.rs").open("a") as source:
        source.write("// edited\n")
    units = dev.build(moved, CARGO_TARGET_DIR=target)
    assert {unit["reason"] for unit in units} == {"new: no cache had it"}
