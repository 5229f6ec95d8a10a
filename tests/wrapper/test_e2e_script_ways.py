"""What a build script reads beside the checkout is another file for another checkout, also where
all lie in HOME."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from developers import Developer, write

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

PACKAGE = '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n'
MAIN = 'fn main() { println!("{}", env!("SAID")); }'
SCRIPT = """fn main() {{
    let here = std::env::current_dir().unwrap();
    let said = {{ {} }}.to_string();
    println!("cargo:rustc-env=SAID={{said}}\\ncargo:rerun-if-changed=build.rs");
}}"""
READS = 'std::fs::read_to_string(here.join("{}")).unwrap()'
LISTS = """let names = std::fs::read_dir("{}").unwrap().map(|each| each.unwrap().file_name());
    let mut names: Vec<_> = names.map(|each| each.into_string().unwrap()).collect();
    names.sort(); names.join(",")"""
SEARCHES = """let mut found = here.ancestors().map(|each| each.join(".marker"));
    let found = found.find(|each| each.exists());
    found.map(|each| std::fs::read_to_string(each).unwrap()).unwrap_or("none".into())"""
BESIDE = {
    "reads beside": (READS.format("../beside/x"), {"../beside/x": "one"}, {"../beside/x": "two"}),
    "by the parent's name": (
        'std::fs::read_to_string(here.parent().unwrap().join("beside/x")).unwrap()',
        {"../beside/x": "one"},
        {"../beside/x": "two"},
    ),
    "hidden, by the parent's name": (
        'std::fs::read_to_string(here.parent().unwrap().join(".env")).unwrap_or("none".into())',
        {},
        {"../.env": "two"},
    ),
    "asks": ('here.join("../x").exists()', {"../x": ""}, {}),
    "asks, not there": ('here.join("../x").exists()', {}, {"../x": ""}),
    "lists above": (LISTS.format(".."), {"../one": ""}, {"../two": ""}),
    "lists beside": (LISTS.format("../../q"), {"../../q/one": ""}, {"../../q/two": ""}),
    "searches upwards": (SEARCHES, {"../.marker": "one"}, {"../.marker": "two"}),
    "searches upwards, far": (SEARCHES, {"../../.marker": "one"}, {"../.marker": "two"}),
    "hidden": (READS.format("../.x"), {"../.x": "one"}, {"../.x": "two"}),
}


NAMES = {
    "of the parent": 'here.parent().unwrap().join("beside/x")',
    "of what really is there": 'std::fs::canonicalize("../beside/x").unwrap()',
}


def outcome(dev: Developer, workspace: Path) -> tuple[str, str]:
    """What a program says that was built here, and one that plain cargo built here."""
    dev.build(workspace)
    dev.run("cargo", "distbuild", "stop", cwd=workspace)
    ours = dev.run(workspace / "target/debug/app", cwd=workspace).stdout
    shutil.rmtree(workspace / "target")
    dev.run("cargo", "build", cwd=workspace)
    plain = dev.run(workspace / "target/debug/app", cwd=workspace).stdout
    shutil.rmtree(workspace / "target")
    return ours, plain


@pytest.fixture(params=["elsewhere", "around", "beside"])
def dev_at(request: pytest.FixtureRequest, dev: Developer) -> Developer:
    """HOME lies elsewhere, or the checkouts in it, or one of them right there."""
    if request.param != "elsewhere":
        rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
        home = dev.directory / "q1" if request.param == "beside" else dev.directory
        dev.extra = {"HOME": str(home), "RUSTUP_HOME": rustup}
    return dev


@pytest.mark.parametrize("case", BESIDE)
def test_beside_the_checkout(dev_at: Developer, case: str) -> None:
    script, *files = BESIDE[case]
    for place, there in zip(("q1/ws", "q1/a/ws", "q2/b/ws"), (*files, files[0]), strict=True):
        workspace = dev_at.directory / place
        write(workspace, {"Cargo.toml": PACKAGE, "build.rs": SCRIPT.format(script)})
        write(workspace, {"src/main.rs": MAIN, **there})
        ours, plain = outcome(dev_at, workspace)
        assert ours == plain


@pytest.mark.parametrize("case", NAMES)
def test_a_path_beside_the_checkout(dev_at: Developer, case: str) -> None:
    """Which it hands to the compile, or to cargo, to watch over."""
    script = SCRIPT.format(f"{NAMES[case]}.display()")
    for place in ("q1/ws", "q1/a/ws", "q2/b/ws"):
        workspace = dev_at.directory / place
        write(workspace, {"Cargo.toml": PACKAGE, "build.rs": script, "src/main.rs": MAIN})
        write(workspace, {"../beside/x": "one"})
        ours, plain = outcome(dev_at, workspace)
        assert ours == plain


@pytest.mark.parametrize("way", ["tests", "data"])
def test_up_from_what_becomes_a_link(dev: Developer, way: str) -> None:
    workspace = dev.directory / "ws"
    script = SCRIPT.format(READS.format(f"{way}/../texts/x"))
    write(workspace, {"Cargo.toml": PACKAGE, "build.rs": script, "src/main.rs": MAIN})
    write(workspace, {"texts/x": "one", f"{way}/t": "", "../other/texts/x": "two"})
    (dev.directory / "other" / way).mkdir()
    assert outcome(dev, workspace) == ("one\n", "one\n")
    (workspace / way).rename(dev.directory / "old")
    (workspace / way).symlink_to(f"../other/{way}")
    assert outcome(dev, workspace) == ("two\n", "two\n")


def test_by_the_checkouts_name(dev: Developer) -> None:
    workspace = dev.directory / "ws"
    script = SCRIPT.format(READS.format("../ws/x"))
    write(workspace, {"Cargo.toml": PACKAGE, "build.rs": script, "src/main.rs": MAIN, "x": "one"})
    assert outcome(dev, workspace) == ("one\n", "one\n")
    shutil.copytree(workspace, dev.directory / "ws2")
    write(workspace, {"x": "two"})
    assert outcome(dev, dev.directory / "ws2") == ("two\n", "two\n")


def test_cargos_configuration_upwards(dev: Developer) -> None:
    """CARGO_HOME is on the way of a checkout right in HOME."""
    script = SEARCHES.replace(".marker", ".cargo/config.toml")
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    dev.extra = {"HOME": str(dev.directory), "RUSTUP_HOME": rustup}
    dev.cargo_home = dev.directory / ".cargo"
    write(dev.directory, {".cargo/config.toml": "# one", "src/.cargo/config.toml": "# two"})
    for place in ("ws", "src/ws"):
        workspace = dev.directory / place
        write(workspace, {"Cargo.toml": PACKAGE, "build.rs": SCRIPT.format(script)})
        write(workspace, {"src/main.rs": MAIN})
        ours, plain = outcome(dev, workspace)
        assert ours == plain


def test_home_in_the_checkout(dev: Developer) -> None:
    """As build services have it."""
    script = 'format!("{:?}", std::fs::read_to_string(std::env::var("HOME").unwrap() + "/.x").ok())'
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    write(dev.directory / "home", {".x": "one"})
    for place, home in (("one", "one/.home"), ("two", "home")):
        workspace = dev.directory / place
        write(workspace, {"Cargo.toml": PACKAGE, "build.rs": SCRIPT.format(script)})
        write(workspace, {"src/main.rs": MAIN})
        dev.extra = {"HOME": str(dev.directory / home), "RUSTUP_HOME": rustup}
        ours, plain = outcome(dev, workspace)
        assert ours == plain
