"""`cargo distbuild why-miss` on builds of a workspace in which one thing changes at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import NEW_LAYOUT, Developer, developer

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

FILES = {
    "Cargo.toml": '[workspace]\nmembers = ["app", "base"]\nresolver = "2"\n',
    "base/Cargo.toml": '[package]\nname = "base-lib"\nversion = "0.1.0"\nedition = "2021"\n'
    "\n[features]\nextra = []\n",
    "base/build.rs": 'fn main() {\n    println!("cargo::rerun-if-changed=setting");\n'
    '    let dir = std::env::var("OUT_DIR").unwrap();\n'
    '    let value = std::fs::read_to_string("setting").unwrap();\n'
    '    std::fs::write(dir + "/made.rs", format!("pub const SETTING: u8 = {value};"))'
    ".unwrap();\n}\n",
    "base/setting": "1",
    "base/src/lib.rs": 'include!(concat!(env!("OUT_DIR"), "/made.rs"));\n'
    "pub fn number() -> u8 {\n    SETTING\n}\n",
    "app/Cargo.toml": '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n'
    '\n[dependencies]\nbase-lib = { path = "../base" }\n',
    "app/src/main.rs": "fn main() {\n"
    '    println!("{} {:?}", base_lib::number(), option_env!("APP_NAME"));\n}\n',
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "ws" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "ws"


@pytest.fixture(params=[{}, NEW_LAYOUT], ids=["", "new-layout"])
def dev(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Developer]:
    with developer(tmp_path / "dev", "none", **request.param) as person:
        yield person


def why(dev: Developer, checkout: Path, crate: str) -> str:
    return dev.run("cargo", "distbuild", "why-miss", crate, cwd=checkout).stdout


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_a_day_with_a_workspace(dev: Developer, checkout: Path) -> None:
    unknown = dev.run("cargo", "distbuild", "why-miss", "app", cwd=checkout, check=False)
    assert unknown.returncode == 1 and "no build has been recorded" in unknown.stderr

    dev.build(checkout)
    first = why(dev, checkout, "app")
    assert re.match(r"app \(bin\): compiled here .* ago \(.+\)\n  never seen before", first), first
    assert re.search(r"^  key: blake3:[0-9a-f]{64}/\d+$", first, re.MULTILINE)
    never = dev.run("cargo", "distbuild", "why-miss", "serde", cwd=checkout, check=False)
    assert never.returncode == 1 and never.stderr.startswith("serde: never seen")

    # a dependency's source
    library = checkout / "base/src/lib.rs"
    library.write_text(library.read_text().replace("    SETTING\n", "    SETTING + 1\n"))
    dev.build(checkout)
    text = why(dev, checkout, "app")
    assert re.search(
        r"changed in its key since .*:\n    dependency base_lib changed\n"
        r"      source file (base/)?src/lib.rs changed\n", text
    ), text  # fmt: skip

    # a variable that the program reads (learned from the first compiles)
    dev.build(checkout, APP_NAME="one")
    dev.build(checkout, APP_NAME="two")
    assert "environment APP_NAME: one → two" in lines_of(why(dev, checkout, "app"))

    # what a build script made
    (checkout / "base/setting").write_text("7")
    dev.build(checkout, APP_NAME="two")
    found = lines_of(why(dev, checkout, "base-lib"))
    assert any(re.fullmatch(r"build-script output .*/out/made.rs changed", x) for x in found), found
    about = [x for x in found if re.search(r"\bsetting\b", x)]
    assert about and all(x.startswith("file ") for x in about), "the compile has not read it itself"

    # a feature: another hash of cargo's, and so another unit
    dev.build(checkout, "--features", "base-lib/extra", APP_NAME="two")
    found = lines_of(why(dev, checkout, "base-lib"))
    assert 'option --cfg added: feature="extra"' in found, found
    assert any(x.startswith("dependency base_lib is another unit") for x in
               lines_of(why(dev, checkout, "app")))  # fmt: skip


def test_hits_and_what_they_save(dev: Developer, checkout: Path) -> None:
    dev.build(checkout)
    dev.run("cargo", "distbuild", "clean", cwd=checkout)
    done = dev.run("cargo", "distbuild", "build", cwd=checkout)
    data = json.loads(dev.run("cargo", "distbuild", "stats", "--json", cwd=checkout).stdout)
    hits = [unit for unit in data["units"] + data["runs"] if unit["outcome"] == "hit-local"]
    assert hits, data
    assert all(unit["made_in"] and unit["made_in"] > 0 for unit in hits), hits
    saved = sum(unit["made_in"] - unit["seconds"] for unit in hits if unit["made_in"])
    assert data["totals"]["saved"] == pytest.approx(saved, abs=0.01)
    assert ("of compiling saved" in done.stderr) == (saved >= 0.05)
    crate = hits[0]["crate"]
    assert "was a hit (local)" in why(dev, checkout, crate)
    page = dev.run("cargo", "distbuild", "timings", cwd=checkout).stdout.strip()
    text = (checkout / page).read_text()
    shown = len(data["units"]) + len(data["runs"])
    assert page == "distbuild-timings.html" and text.count("<rect") == shown


def test_settings_in_cargos_file(dev: Developer, checkout: Path, tmp_path: Path) -> None:
    """They reach the daemon from `cargo distbuild` and from the wrapper used by hand."""
    settings = checkout / ".cargo" / "config.toml"
    settings.parent.mkdir()
    settings.write_text('[distbuild]\nremote = "grpc://127.0.0.1:1"\n')
    kept = {k: v for k, v in dev.environment.items() if k != "DISTBUILD_REMOTE"}

    def build(*command: str, **environment: str) -> str:
        # env(1), so that nothing of the test's own says where the server is
        words = [f"{name}={value}" for name, value in (kept | environment).items()]
        return dev.run("/usr/bin/env", "-i", *words, *command, cwd=checkout).stderr

    told = "warning: distbuild: the server grpc://127.0.0.1:1 cannot be reached"
    stderr = build("cargo", "distbuild", "build")
    assert stderr.count(told) == 1, stderr
    build("cargo", "clean")
    dev.run("rm", "-rf", dev.home / "cache", cwd=checkout)
    stderr = build("cargo", "build", RUSTC_WRAPPER="cargo-distbuild-wrapper")
    assert "unused" not in stderr  # cargo leaves the table alone
    assert {unit["outcome"] for unit in dev.units(checkout)} <= {"local", "hit-local"}
    assert any("127.0.0.1:1" in (unit["reason"] or "") for unit in dev.units(checkout))
