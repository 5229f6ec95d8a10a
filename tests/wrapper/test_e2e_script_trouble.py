"""Runs of build scripts in odd places, after failures and edits, and of overridden scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from developers import Developer, write

from wrapper.inputs.toolchain import machine

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

MANIFEST = '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n'
TRIPLE = f"{machine()}-unknown-linux-gnu"
MADE = 'fn main() { print!("{}", include_str!(concat!(env!("OUT_DIR"), "/made"))); }'


def package(directory: Path, files: dict[str, str]) -> Path:
    return write(directory, {"Cargo.toml": MANIFEST} | files)


def built(dev: Developer, checkout: Path, **environment: str) -> dict[str, Any]:
    """The statistics of a build whose results are all kept."""
    dev.build(checkout, **environment)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)
    stats = dev.run("cargo", "distbuild", "stats", "--json", cwd=checkout).stdout
    found: dict[str, Any] = json.loads(stats)
    return found


def outcomes(stats: dict[str, Any]) -> list[str]:
    return [each["outcome"] for each in (*stats["units"], *stats["runs"])]


@pytest.mark.parametrize("how", ["upwards", "link"])
def test_target_directories_by_other_names(dev: Developer, tmp_path: Path, how: str) -> None:
    """cargo leaves `..` in the path, and links; programs see where it really is."""
    script = """fn main() {
        let out = std::env::var("OUT_DIR").unwrap();
        let real = std::fs::canonicalize(&out).unwrap();
        std::fs::write(real.join("made"), std::fs::read("word").unwrap()).unwrap();
    }"""
    seen = []
    for name in ("one", "one", "two"):
        checkout = package(
            tmp_path / name / "ws",
            {"build.rs": script, "src/main.rs": MADE, "word": "said\n"},
        )
        target = tmp_path / name / "elsewhere"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        if how == "link" and name == "one":
            (checkout / "target").unlink(missing_ok=True)
        if how == "link":
            (checkout / "target").symlink_to("../elsewhere")
        more = {} if how == "link" else {"CARGO_TARGET_DIR": "../elsewhere"}
        seen.append(set(outcomes(built(dev, checkout, **more))))
        assert dev.run(target / "debug/app", cwd=checkout).stdout == "said\n"
    assert seen == [{"local"}, {"hit-local"}, {"hit-local"}]


def test_a_script_that_walks_through_the_package(dev: Developer, tmp_path: Path) -> None:
    """And so through `target`, in which others' files come and go meanwhile."""
    script = """
    fn grammars(directory: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| match path.is_dir() {
            true => grammars(&path),
            false => path.extension().map_or(0, |end| usize::from(end == "grammar")),
        }).sum()
    }
    fn main() {
        let out = std::env::var("OUT_DIR").unwrap();
        std::fs::write(format!("{out}/made"), grammars(".".as_ref()).to_string()).unwrap();
    }"""
    files = {"build.rs": script, "src/main.rs": MADE, "src/one.grammar": ""}
    here = package(tmp_path / "here", files)
    there = package(tmp_path / "there", files)
    for checkout, outcome in ((here, "local"), (here, "hit-local"), (there, "hit-local")):
        shutil.rmtree(checkout / "target", ignore_errors=True)
        assert set(outcomes(built(dev, checkout))) == {outcome}
    (here / "src" / "two.grammar").touch()
    shutil.rmtree(here / "target")
    (run,) = built(dev, here)["runs"]
    assert run["outcome"] == "local"
    assert dev.run(here / "target/debug/app", cwd=here).stdout == "2"


def test_a_script_that_failed_is_watched_again(dev: Developer, tmp_path: Path) -> None:
    """It failed without as well: for want of a library, as may be."""
    script = """fn main() {
        println!("cargo::rustc-env=SAID={}", std::fs::read_to_string("wanted").unwrap().trim());
    }"""
    main = 'fn main() { println!("{}", env!("SAID")); }'
    checkout = package(tmp_path / "ws", {"build.rs": script, "src/main.rs": main})
    assert dev.run("cargo", "distbuild", "build", cwd=checkout, check=False).returncode != 0
    (checkout / "wanted").write_text("there")
    built(dev, checkout)
    shutil.rmtree(checkout / "target")
    (run,) = built(dev, checkout)["runs"]
    assert run["outcome"] == "hit-local"


def test_a_script_that_is_overridden(dev: Developer, tmp_path: Path) -> None:
    """cargo names an OUT_DIR, and makes none."""
    override = f'[target.{TRIPLE}.zz]\nrustc-env = {{ SAID = "so" }}\n'
    checkout = package(
        tmp_path / "ws",
        {
            "Cargo.toml": MANIFEST.replace("edition", 'links = "zz"\nedition'),
            "build.rs": "fn main() { panic!() }",
            "src/main.rs": 'fn main() { println!("{}", env!("SAID")); }',
            ".cargo/config.toml": override,
        },
    )
    for outcome in ("local", "hit-local"):
        shutil.rmtree(checkout / "target", ignore_errors=True)
        assert outcomes(built(dev, checkout)) == [outcome]


def test_objects_have_no_paths_after_an_edit_either(dev: Developer, tmp_path: Path) -> None:
    """The run is not kept then, and what is linked with its objects is."""
    script = f"""fn main() {{
        println!("cargo::rerun-if-changed=word");
        let out = std::env::var("OUT_DIR").unwrap();
        let flags = std::env::var("CFLAGS_{TRIPLE.replace("-", "_")}").unwrap();
        let flag = flags.split(' ').find(|each| each.contains("file-prefix-map")).unwrap();
        std::fs::write(format!("{{out}}/made"), flag.split('=').next().unwrap()).unwrap();
    }}"""
    checkout = package(tmp_path / "ws", {"build.rs": script, "src/main.rs": MADE, "word": "one"})
    for word in ("one", "two"):
        (checkout / "word").write_text(word)
        (run,) = built(dev, checkout)["runs"]
        assert run["outcome"] == "local"
        said = dev.run(checkout / "target/debug/app", cwd=checkout).stdout
        assert said == "-ffile-prefix-map"
    assert run["reason"] == "OUT_DIR holds files from a run before"


def test_what_make_hears_of_the_make_around_it(dev: Developer, tmp_path: Path) -> None:
    script = """fn main() {
        let done = std::process::Command::new("make").args(["-s", "-f", "words"]).output().unwrap();
        println!("cargo::rustc-env=SAID={}", String::from_utf8(done.stdout).unwrap().trim());
    }"""
    main = 'fn main() { println!("{}", env!("SAID")); }'
    checkout = package(
        tmp_path / "ws",
        {"build.rs": script, "src/main.rs": main, "words": "all:\n\t@echo $(WORD) $(MAKELEVEL)\n"},
    )
    for level, flags, outcome in (
        ("", "", "local"),
        ("1", " -j2 --jobserver-auth=3,4 -- WORD=one", "local"),
        ("1", " -j9 --jobserver-auth=5,6 -- WORD=one", "hit-local"),
        ("1", " -- WORD=two", "local"),
        ("", "", "hit-local"),
    ):
        shutil.rmtree(checkout / "target", ignore_errors=True)
        told = {"MAKELEVEL": level, "MAKEFLAGS": flags} if level else {}
        (run,) = built(dev, checkout, **told)["runs"]
        assert run["outcome"] == outcome
        word = flags.rpartition("WORD=")[2]
        said = dev.run(checkout / "target/debug/app", cwd=checkout).stdout.split()
        assert said[:-1] == ([word] if word else [])


def test_a_version_script_beside_the_package(dev: Developer, tmp_path: Path) -> None:
    script = """fn main() {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        println!("cargo::rustc-link-arg-cdylib=-Wl,--version-script={here}/../words.map");
    }"""
    member = MANIFEST.replace("[workspace]\n", '[lib]\ncrate-type = ["cdylib"]\n')
    checkout = package(
        tmp_path / "ws",
        {
            "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\n',
            "app/Cargo.toml": member,
            "app/build.rs": script,
            "app/src/lib.rs": '#[no_mangle]\npub extern "C" fn one() {}\n',
        },
    )
    for version, outcome in (("V1", "local"), ("V1", "hit-local"), ("V2", "local")):
        (checkout / "words.map").write_text(f"{version} {{ global: one; }};")
        shutil.rmtree(checkout / "target", ignore_errors=True)
        units = {unit["kind"]: unit for unit in built(dev, checkout)["units"]}
        assert units["cdylib"]["outcome"] == outcome, units["cdylib"]
