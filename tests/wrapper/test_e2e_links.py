"""Outputs that the cache and a target directory have in common."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from developers import Developer, outputs

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

VALUE = "pub fn value() -> u32 { 41 }\n"
MAIN = 'fn main() { println!("{}", base::value() + 1); }\n'


def workspace(directory: Path) -> Path:
    """A program `app` and the library `base` that it uses."""
    for name, file, source, more in (
        ("base", "lib.rs", VALUE, ""),
        ("app", "main.rs", MAIN, '[dependencies]\nbase = { path = "../base" }\n'),
    ):
        (directory / name / "src").mkdir(parents=True)
        (directory / name / "src" / file).write_text(source)
        (directory / name / "Cargo.toml").write_text(
            f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{more}'
        )
    (directory / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "base"]\nresolver = "2"\n'
    )
    return directory


def archive(checkout: Path) -> Path:
    (found,) = outputs(checkout / "target/debug", "libbase-*.rlib")
    return found


def cached(dev: Developer) -> set[int]:
    """The inodes of the cache's files."""
    return {path.stat().st_ino for path in (dev.home / "cache" / "cas").rglob("*_*")}


def outcomes(dev: Developer, checkout: Path) -> dict[str, str]:
    return {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}


def settled(dev: Developer, checkout: Path) -> None:
    """Wait until all is kept."""
    dev.run("cargo", "distbuild", "stop", cwd=checkout)


def is_fresh(dev: Developer, checkout: Path) -> bool:
    """Whether plain cargo finds nothing to do, and the program works."""
    said = dev.run("cargo", "build", "-v", cwd=checkout).stderr
    assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout == "42\n"
    return "Compiling" not in said and "Dirty" not in said


def test_one_file_for_the_cache_and_one_target_directory(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w")
    assert set(outcomes(dev, checkout).values()) == {"local"}
    settled(dev, checkout)
    program = checkout / "target/debug/app"
    for output in (archive(checkout), program):
        assert output.stat().st_ino in cached(dev), "kept without a copy"
    assert is_fresh(dev, checkout)
    dev.run("cargo", "clean", cwd=checkout)
    assert set(outcomes(dev, checkout).values()) == {"hit-local"}
    for output in (archive(checkout), program):
        assert output.stat().st_ino in cached(dev), "placed without a copy"
        assert os.access(output, os.W_OK)
    assert is_fresh(dev, checkout)


def test_another_target_directory_gets_a_copy_and_disturbs_nobody(
    dev: Developer, tmp_path: Path
) -> None:
    first, second = workspace(tmp_path / "one"), workspace(tmp_path / "two")
    outcomes(dev, first)
    settled(dev, first)
    assert set(outcomes(dev, second).values()) == {"hit-local"}
    for output in (archive(second), second / "target/debug/app"):
        assert output.stat().st_ino not in cached(dev)
    assert is_fresh(dev, first)
    assert is_fresh(dev, second)


@pytest.mark.parametrize("name", ["base", "app"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_an_output_overwritten_in_place_is_nobodys_hit(
    dev: Developer, tmp_path: Path, name: str, is_cut: bool
) -> None:
    checkout = workspace(tmp_path / "w")
    outcomes(dev, checkout)
    settled(dev, checkout)
    path = archive(checkout) if name == "base" else checkout / "target/debug/app"
    assert path.stat().st_ino in cached(dev)
    with path.open("r+b") as file:
        if is_cut:
            file.truncate(path.stat().st_size // 2)
        file.seek(path.stat().st_size // 2)
        file.write(b"spoilt")
    dev.run("cargo", "clean", cwd=checkout)
    assert outcomes(dev, checkout)[name] == "local"
    assert is_fresh(dev, checkout)


def test_a_program_that_was_stripped_in_place(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w")
    outcomes(dev, checkout)
    settled(dev, checkout)
    program = checkout / "target/debug/app"
    whole = program.stat().st_size
    dev.run("strip", program, cwd=checkout)
    assert program.stat().st_size < whole
    assert is_fresh(dev, checkout)
    for _ in range(2):
        dev.run("cargo", "clean", cwd=checkout)
        outcomes(dev, checkout)
        settled(dev, checkout)
        assert program.stat().st_size == whole
        assert is_fresh(dev, checkout)


def test_a_change_replaces_the_file_and_leaves_the_cache_as_it_was(
    dev: Developer, tmp_path: Path
) -> None:
    checkout = workspace(tmp_path / "w")
    outcomes(dev, checkout)
    settled(dev, checkout)
    source = checkout / "base" / "src" / "lib.rs"
    source.write_text(VALUE.replace("41", "40 + 100"))
    outcomes(dev, checkout)
    settled(dev, checkout)
    assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout == "141\n"
    source.write_text(VALUE)
    assert set(outcomes(dev, checkout).values()) == {"hit-local"}
    assert is_fresh(dev, checkout)


def test_the_program_of_a_build_script_is_shared_and_still_runs(
    dev: Developer, tmp_path: Path
) -> None:
    checkout = workspace(tmp_path / "w")
    script = checkout / "base" / "build.rs"
    script.write_text('fn main() { println!("cargo::rustc-env=FROM=script"); }\n')
    (checkout / "base" / "src" / "lib.rs").write_text(
        'pub fn value() -> u32 { assert_eq!(env!("FROM"), "script"); 41 }\n'
    )

    def program() -> os.stat_result:
        (found,) = (checkout / "target/debug/build").rglob("build_script_build*.real")
        assert os.access(found, os.X_OK)
        return found.stat()

    outcomes(dev, checkout)
    settled(dev, checkout)
    assert program().st_ino in cached(dev), "kept without a copy"
    dev.run("cargo", "clean", cwd=checkout)
    assert set(outcomes(dev, checkout).values()) == {"hit-local"}
    assert program().st_ino in cached(dev), "placed without a copy"
    assert is_fresh(dev, checkout)
    script.touch()
    plain = dev.run("cargo", "build", cwd=checkout)
    assert plain.returncode == 0
    # the run of a script that was placed
    dev.run("cargo", "clean", cwd=checkout)
    outcomes(dev, checkout)
    (checkout / "base" / "extra").touch()
    dev.run("cargo", "build", cwd=checkout)
    assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout == "42\n"


def test_debug_objects_beside_the_output(dev: Developer, tmp_path: Path) -> None:
    """What `split-debuginfo = "unpacked"` leaves is there after a hit, and the program, wherever it
    is run, names that of its own checkout."""

    def objects(checkout: Path) -> set[str]:
        return {path.name for path in outputs(checkout / "target/debug", "*.dwo")}

    first, second = workspace(tmp_path / "one"), workspace(tmp_path / "two")
    for checkout in (first, second):
        with (checkout / "Cargo.toml").open("a") as manifest:
            manifest.write('[profile.dev]\nsplit-debuginfo = "unpacked"\n')
    assert set(outcomes(dev, first).values()) == {"local"}
    made = objects(first)
    assert {re.split("[-.]", name)[0] for name in made} == {"app", "base"}
    settled(dev, first)
    dev.run("cargo", "clean", cwd=first)
    for checkout, outcome in ((first, "hit-local"), (second, "local")):
        assert set(outcomes(dev, checkout).values()) == {outcome}
        assert outcome == "local" or objects(checkout) == made
        assert is_fresh(dev, checkout)
        said = dev.run("readelf", "--debug-dump=info", "target/debug/app", cwd=checkout).stdout
        named = set(re.findall(r"dwo_name *: .*: (\S+)", said))
        assert named, "the program says where its debug objects are"
        assert {Path(name).name for name in named} <= objects(checkout)
        assert all(name.startswith(f"{checkout}/target/debug/") for name in named)


def test_directories_that_are_searched(dev: Developer, tmp_path: Path) -> None:
    """One named from the workspace's root, where rustc is started; one that is not there; one of
    the system's, that has no archive of the name."""
    checkout = workspace(tmp_path / "w")
    script = """fn main() {
        println!("cargo::rustc-link-search=native=/usr/lib");
        println!("cargo::rustc-link-search=native=base/own");
        println!("cargo::rustc-link-search=native={}/lib64", std::env::var("OUT_DIR").unwrap());
        println!("cargo::rustc-link-lib=static=own");
    }"""
    (checkout / "base" / "build.rs").write_text(script)
    (checkout / "base" / "src" / "lib.rs").write_text(
        'extern "C" { fn own() -> u32; }\npub fn value() -> u32 { unsafe { own() } }\n'
    )
    (checkout / "base" / "own").mkdir()

    def archived(value: int) -> None:
        source, made = tmp_path / "own.c", tmp_path / "own.o"
        source.write_text(f"int own(void) {{ return {value}; }}")
        dev.run("cc", "-c", source, "-o", made, cwd=tmp_path)
        dev.run("ar", "crsD", "base/own/libown.a", made, cwd=checkout)

    archived(41)
    assert set(outcomes(dev, checkout).values()) == {"local"}
    settled(dev, checkout)
    dev.run("cargo", "clean", cwd=checkout)
    assert set(outcomes(dev, checkout).values()) == {"hit-local"}
    assert is_fresh(dev, checkout)
    archived(42)
    dev.run("cargo", "clean", cwd=checkout)
    assert outcomes(dev, checkout)["app"] == "local"
    assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout == "43\n"
