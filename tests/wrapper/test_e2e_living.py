"""What those who live with it met: packages of several targets, members elsewhere, nested cargo."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from developers import Developer, developer, write
from running import running_server

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

PACKAGE = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'


def package(directory: Path) -> Path:
    """A library, a program of the same name and a build script."""
    files = {
        "Cargo.toml": PACKAGE.replace("{}", "app") + "[workspace]\n",
        "src/lib.rs": "pub fn value() -> u8 { 7 }",
        "src/main.rs": 'fn main() { println!("{}", app::value()); }',
        "build.rs": 'fn main() { println!("cargo:rerun-if-changed=build.rs"); }',
    }
    return write(directory, files)


def test_all_targets_of_a_package_are_shared(tmp_path: Path) -> None:
    """rustc keeps incremental state of a library and a program of one name in one directory."""
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "alice", server.url) as alice,
        developer(tmp_path / "bob", server.url) as bob,
    ):
        alice.build(package(alice.directory / "ws"))
        alice.run("cargo", "distbuild", "stop", cwd=alice.directory)  # waits until all is shared
        units = bob.build(package(bob.directory / "another" / "ws"))
        assert {unit["kind"] for unit in units} == {"lib", "bin", "build-script"}
        assert {unit["outcome"] for unit in units} == {"hit-remote"}, units


def test_a_test_outside_of_the_workspace_finds_its_source(dev: Developer) -> None:
    files = {
        "ws/Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["../beside"]\n',
        "beside/Cargo.toml": PACKAGE.replace("{}", "beside") + 'workspace = "../ws"\n',
        "beside/src/lib.rs": "#[test]\nfn is_there() {\n"
        '    assert!(std::path::Path::new(file!()).exists(), "{}", file!());\n}\n',
    }
    workspace = write(dev.directory / "here", files) / "ws"
    dev.run("cargo", "distbuild", "test", cwd=workspace)
    dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be
    shutil.rmtree(workspace / "target")
    dev.run("cargo", "distbuild", "test", cwd=workspace)
    assert {unit["outcome"] for unit in dev.units(workspace)} == {"hit-local"}
    other = dev.directory / "there"
    shutil.copytree(dev.directory / "here", other, ignore=shutil.ignore_patterns("target"))
    dev.run("cargo", "distbuild", "test", cwd=other / "ws")


def test_a_directory_of_the_workspace_by_a_link(dev: Developer) -> None:
    """As the macro crates of some projects have what they share."""
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\n',
        "app/Cargo.toml": PACKAGE.replace("{}", "app"),
        "app/src/main.rs": 'mod shared;\nfn main() { println!("{}", shared::VALUE); }',
        "shared/mod.rs": "pub const VALUE: u8 = 7;",
    }
    workspace = write(dev.directory / "ws", files)
    (workspace / "app/src/shared").symlink_to("../../shared")
    for value, outcome in ((7, "local"), (7, "hit-local"), (8, "local"), (7, "hit-local")):
        (workspace / "shared/mod.rs").write_text(f"pub const VALUE: u8 = {value};")
        shutil.rmtree(workspace / "target", ignore_errors=True)
        (unit,) = dev.build(workspace)
        assert unit["outcome"] == outcome, unit
        assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout == f"{value}\n"
        dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be


@pytest.mark.parametrize("place", ["..", "../../beside"])
def test_messages_that_point_into_a_dependency_elsewhere(dev: Developer, place: str) -> None:
    """As with plain cargo, also where the workspace lies in that dependency, as `fuzz` does."""
    files = {
        "ws/app/Cargo.toml": PACKAGE.replace("{}", "app")
        + f'[workspace]\n[dependencies]\ndep = {{ path = "{place}" }}\n',
        "ws/app/src/lib.rs": "pub fn f() { dep::takes(1u8, 2); }",
    }
    workspace = write(dev.directory / "x", files) / "ws/app"
    dependency = {
        "Cargo.toml": PACKAGE.replace("{}", "dep") + "[workspace]\n",
        "src/lib.rs": "pub fn takes(_: u8) {}\npub fn other() {}\n",
    }
    write((workspace / place).resolve(), dependency)
    said = []
    for command in (["cargo", "distbuild"], ["cargo"]):
        shutil.rmtree(workspace / "target", ignore_errors=True)
        done = dev.run(*command, "build", cwd=workspace, check=False)
        lines = done.stderr.splitlines()
        said.append(
            [
                line
                for line in lines
                if not re.match(r" +(Distbuild|Locking)|warning: build failed", line)
            ]
        )
    assert said[0] == said[1]
    assert any("pub fn takes(_: u8)" in line for line in said[0]), said[0]


def test_what_a_test_hands_on_to_its_own_cargo(dev: Developer) -> None:
    """OUT_DIR of the package that is tested says nothing of those that it has compiled."""
    checkout = package(dev.directory / "ws")
    (checkout / "build.rs").unlink()
    for number, outcome in enumerate(("local", "hit-local")):
        shutil.rmtree(checkout / "target", ignore_errors=True)
        units = dev.build(checkout, OUT_DIR=f"/some/where/{number}/out")
        assert {unit["outcome"] for unit in units} == {outcome}, units
        dev.run("cargo", "distbuild", "stop", cwd=checkout)  # all is kept that will be


NESTED = """#[test] fn compiles() {
    let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/inner");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--manifest-path", "inner/Cargo.toml", "--target-dir", target]);
    assert!(cargo.status().unwrap().success());
    assert!(std::path::Path::new(env!("CARGO_BIN_EXE_app")).exists());
}"""


def test_what_tests_have_compiled_is_the_same_elsewhere(dev: Developer) -> None:
    """cargo tells tests where the package's programs are, and they tell the cargo that they run."""
    for place, outcome in (("ws", "local"), ("deep/er/ws", "hit-local")):
        checkout = package(dev.directory / place)
        inner = {"Cargo.toml": PACKAGE.format("inner") + "[workspace]\n", "src/lib.rs": ""}
        write(checkout, {"tests/it.rs": NESTED})
        write(checkout / "inner", inner)
        dev.run("cargo", "distbuild", "test", cwd=checkout)
        dev.run("cargo", "distbuild", "stop", cwd=checkout)
        units = {unit["crate"]: unit["outcome"] for unit in dev.units(checkout)}
        assert units["inner"] == outcome


@pytest.mark.parametrize("how", ["-q", "--quiet", "CARGO_TERM_QUIET"])
def test_quiet_builds_are_quiet(dev: Developer, how: str) -> None:
    checkout = package(dev.directory / "ws")
    for _ in range(2):  # by the whole program, and by the shell
        shutil.rmtree(checkout / "target", ignore_errors=True)
        if how.startswith("-"):
            done = dev.run("cargo", "distbuild", "build", how, cwd=checkout)
        else:
            done = dev.run("cargo", "distbuild", "build", cwd=checkout, CARGO_TERM_QUIET="true")
        assert done.stderr == ""


def test_what_was_kept_without_a_server_reaches_one(tmp_path: Path) -> None:
    """Also what was kept while the server was away: the next build has it go there."""
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "alice", "none") as alice,
        developer(tmp_path / "bob", server.url) as bob,
    ):
        checkout = package(alice.directory / "ws")
        alice.build(checkout)
        alice.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
        shutil.rmtree(checkout / "target")
        alice.remote = server.url
        assert {unit["outcome"] for unit in alice.build(checkout)} == {"hit-local"}
        alice.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is shared
        units = bob.build(package(bob.directory / "another" / "ws"))
        assert {unit["outcome"] for unit in units} == {"hit-remote"}, units
        stats = bob.run("cargo", "distbuild", "stats", "--json", cwd=checkout).stdout
        (run,) = json.loads(stats)["runs"]
        assert run["outcome"] == "hit-remote"
