"""`cargo distbuild why-miss` on runs of a build script, of which one thing changes at a time."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from developers import Developer
from scripts import built, curious, package, someone

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(900)]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Developer]:
    with someone(tmp_path / "dev", None) as person:
        yield person


def why(dev: Developer, checkout: Path, crate: str = "app") -> list[str]:
    """The answer about the crate's run."""
    text = dev.run("cargo", "distbuild", "why-miss", crate, cwd=checkout).stdout
    (answer,) = (each for each in text.split("\n\n") if each.startswith(f"{crate} (script-run)"))
    return [line.strip() for line in answer.splitlines()]


def changed(lines: list[str]) -> list[str]:
    """What has changed, by an answer about a run that took place."""
    assert re.fullmatch(r"app \(script-run\): ran here .* ago \(new: no cache had it\)", lines[0])
    assert re.fullmatch(r"changed in its key since .* ago( in .*)?:", lines[1]), lines
    assert re.fullmatch(r"key: blake3:[0-9a-f]{64}/\d+", lines[-1])
    return lines[2:-1]


def test_every_kind_of_input(dev: Developer, tmp_path: Path) -> None:
    checkout = curious(tmp_path / "w")
    app, home = checkout / "app", Path(dev.extra["HOME"])
    helper = tmp_path / "bin" / "helper-of-test"
    helper.parent.mkdir()
    search = {"PATH": f"{helper.parent}:{dev.environment['PATH']}"}
    assert built(dev, checkout, **search)[0] == "local"
    assert (
        "never seen before on this machine, in this form; no result was found"
        in why(dev, checkout)[1]
    )
    assert built(dev, checkout, **search)[0] == "hit-local"
    assert re.fullmatch(r"app \(script-run\): was a hit \(local\) .* ago", why(dev, checkout)[0])

    def after(change: Callable[[], object], *wanted: str, **environment: str) -> None:
        change()
        assert built(dev, checkout, **search, **environment)[0] == "local"
        assert sorted(changed(why(dev, checkout))) == [*wanted]

    def program() -> None:
        helper.write_text("#!/bin/sh\necho helped\n")
        helper.chmod(0o755)

    after(lambda: (app / "data/file.txt").write_text("two"), "file app/data/file.txt changed")
    after(lambda: (app / "data/sub/absent.txt").touch(), "file app/data/sub/absent.txt added")
    after(lambda: (app / "data/new").touch(), "file app/data/new added")
    after(lambda: (app / "data/file.txt").unlink(), "file app/data/file.txt removed")
    after(lambda: (app / "c/value.h").write_text("#define VALUE 2"), "file app/c/value.h changed")
    after(lambda: (home / ".noterc").write_text("noted"), "file home/.noterc added")
    after(lambda: (checkout / ".git/HEAD").write_text("ref: two"), "file .git/HEAD changed")
    after(
        program, "file bin/helper-of-test above the workspace added",
        "program on PATH helper-of-test added",
    )  # fmt: skip
    after(lambda: None, "environment DECLARED added: one", DECLARED="one")
    after(lambda: None, "environment DECLARED: one → two", DECLARED="two")
    script = app / "build.rs"
    text = script.read_text().replace('join("|")', 'join("/")')
    after(lambda: script.write_text(text), "the build script changed", DECLARED="two")
    assert built(dev, checkout, "--release", **search)[0] == "local"
    lines = why(dev, checkout)
    assert lines[1].endswith(f" ago in {checkout}/target/debug:")
    assert "environment PROFILE: debug → release" in changed(lines)
    assert not [line for line in lines if "OUT_DIR" in line]


def test_a_build_that_goes_on(dev: Developer, tmp_path: Path) -> None:
    """OUT_DIR is not empty, nothing is looked for; a run and all that needs it are explained."""
    script = """fn main() {
        println!("cargo::rerun-if-changed=setting");
        let text = std::fs::read_to_string("setting").unwrap();
        std::fs::write(std::env::var("OUT_DIR").unwrap() + "/made.rs", text).unwrap();
    }"""
    main = 'fn main() { println!("{}", include!(concat!(env!("OUT_DIR"), "/made.rs"))); }'
    checkout = package(tmp_path / "w", "app", script, main=main)
    for number in (1, 2):
        (checkout / "setting").write_text(f"{number}")
        dev.build(checkout)
    lines = why(dev, checkout)
    assert lines[0].endswith("(OUT_DIR holds files from a run before)")
    assert lines[2:-1] == ["file setting changed"]
    text = dev.run("cargo", "distbuild", "why-miss", "app", cwd=checkout).stdout
    found = re.search(
        r"^app \(bin\).*\n.*\n(?:    .*\n)*?    build-script output .*/out/made.rs changed\n"
        r"      file setting changed\n", text, re.MULTILINE
    )  # fmt: skip
    assert found, text


def test_why_a_result_is_not_kept(dev: Developer, tmp_path: Path) -> None:
    script = """fn main() {
        let out = std::process::Command::new("date").output().unwrap().stdout;
        print!("cargo::rustc-env=DATE={}", String::from_utf8(out).unwrap());
    }"""
    checkout = package(tmp_path / "w", "app", script)
    for _ in range(2):
        dev.build(checkout)
        dev.run("cargo", "distbuild", "stop", cwd=checkout)
        shutil.rmtree(checkout / "target")
    lines = why(dev, checkout)
    assert "what it makes holds a date" in lines[0]
    assert "never seen before" in lines[1]
