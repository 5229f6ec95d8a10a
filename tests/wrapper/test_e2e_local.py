"""What is compiled on this machine is kept: for its user, and for others through a server."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from developers import Developer, developer
from running import running_server

from tests.wrapper.reason_texts import provokes

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]

MACRO = """
#[proc_macro]
pub fn text_of(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    if input.to_string().contains("gone") { panic!("gone"); }
    input
}
"""
READING_MACRO = """
use proc_macro::TokenStream;
#[proc_macro]
pub fn text_of(input: TokenStream) -> TokenStream {
    let name = input.to_string();
    let path = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join(name.trim_matches('"'));
    let text = std::fs::read_to_string(&path).unwrap_or("nothing".into());
    format!("{:?}", text.trim()).parse().unwrap()
}
"""


def package(directory: Path, name: str, source: str, more: str = "") -> None:
    (directory / "src").mkdir(parents=True)
    (directory / "Cargo.toml").write_text(
        f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{more}'
    )
    (directory / "src" / "lib.rs").write_text(source)


def workspace(directory: Path, main: str, macro: str = MACRO) -> Path:
    """A program `app` that may use the macro `text_of`."""
    package(directory / "macros", "macros", macro, "[lib]\nproc-macro = true\n")
    package(directory / "app", "app", "", '[dependencies]\nmacros = { path = "../macros" }\n')
    (directory / "app" / "src" / "lib.rs").unlink()
    (directory / "app" / "src" / "main.rs").write_text(main)
    (directory / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "macros"]\nresolver = "2"\n'
    )
    return directory


def built(dev: Developer, checkout: Path) -> tuple[str, str]:
    """Where the program came from in a fresh build, and what it says."""
    dev.run("cargo", "clean", cwd=checkout)
    units = {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
    return units["app"], dev.run(checkout / "target/debug/app", cwd=checkout).stdout.strip()


def reasons(dev: Developer, checkout: Path) -> dict[str, str]:
    """Why the units of the last build were compiled here, by crate."""
    return {unit["crate"]: unit["reason"] for unit in dev.units(checkout)}


def test_another_checkout_of_the_same_user(dev: Developer, tmp_path: Path) -> None:
    main = 'fn main() { println!("{} {}", file!(), macros::text_of!("a note")); }'
    for name, outcome in (("one", "local"), ("one", "hit-local"), ("two", "hit-local")):
        if not (tmp_path / name).exists():
            workspace(tmp_path / name, main)
        assert built(dev, tmp_path / name) == (outcome, "app/src/main.rs a note")


def test_what_a_macro_reads_outside(dev: Developer, tmp_path: Path) -> None:
    """No key names it, so the unit is compiled again each time; also if nothing is there."""
    main = 'fn main() { println!("{}", macros::text_of!("../../note")); }'
    checkout = workspace(tmp_path / "w", main, READING_MACRO)
    for note in ("one", "two", None, "one"):
        (tmp_path / "note").unlink(missing_ok=True)
        if note is not None:
            (tmp_path / "note").write_text(note)
        assert built(dev, checkout) == ("local", note or "nothing")


@pytest.mark.parametrize("is_handed_on", [False, True])
def test_what_a_macro_reads_for_a_dependency(
    dev: Developer, tmp_path: Path, is_handed_on: bool
) -> None:
    """Who cannot name the macro is kept; who can may have read anything."""
    said = 'middle::text_of!("../../note")' if is_handed_on else "middle::text()"
    checkout = workspace(
        tmp_path / "w", f'fn main() {{ println!("{{}}", {said}); }}', READING_MACRO
    )
    (checkout / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "macros", "middle"]\nresolver = "2"\n'
        "[profile.dev]\nincremental = false\n"  # else rustc names the objects in an rlib at random
    )
    source = 'pub fn text() -> &\'static str { macros::text_of!("../../note") }'
    source += "\npub use macros::text_of;" if is_handed_on else ""
    package(checkout / "middle", "middle", source, '[dependencies]\nmacros.path = "../macros"\n')
    manifest = checkout / "app" / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("macros", "middle"))
    seen = []
    for note in ("one", "two", "one"):
        (tmp_path / "note").write_text(note)
        outcome, words = built(dev, checkout)
        assert words == note
        seen.append(outcome)
    assert seen == ["local", "local", "local" if is_handed_on else "hit-local"]


def test_a_variable_that_a_macro_names(dev: Developer, tmp_path: Path) -> None:
    macro = """
        #[proc_macro]
        pub fn text_of(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
            let value = std::env::var("MY_OWN_NAME").unwrap_or("unset".into());
            format!("{value:?}").parse().unwrap()
        }
    """
    main = 'fn main() { println!("{} {:?}", macros::text_of!(""), option_env!("OTHER")); }'
    checkout = workspace(tmp_path / "w", main, macro)
    seen = []
    for name, other in (("a", ""), ("a", ""), ("", ""), ("b", "x"), ("a", ""), ("b", "x")):
        dev.extra = {k: v for k, v in (("MY_OWN_NAME", name), ("OTHER", other)) if v}
        outcome, said = built(dev, checkout)
        wanted = f'Some("{other}")' if other else "None"
        assert said == f"{name or 'unset'} {wanted}"
        seen.append(outcome)
    assert seen == ["local", "hit-local", "local", "local", "hit-local", "hit-local"]


def test_what_holds_this_checkouts_path(dev: Developer, tmp_path: Path) -> None:
    """It is a hit where it is right, and there alone."""
    main = 'fn main() { println!("{}", env!("CARGO_MANIFEST_DIR")); }'
    for name, outcome in (("one", "local"), ("one", "hit-local"), ("two", "local")):
        checkout = tmp_path / name
        if not checkout.exists():
            workspace(checkout, main)
        assert built(dev, checkout) == (outcome, str(checkout / "app"))


def test_switching_between_two_states(dev: Developer, tmp_path: Path) -> None:
    """As with branches: what was once compiled is there, also when nothing is cleaned."""
    checkout = workspace(tmp_path / "w", "")
    source = checkout / "app" / "src" / "main.rs"
    seen = []
    for state in ("a", "b", "a", "b"):
        source.write_text(f'fn main() {{ println!("{state}"); }}')
        units = {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}
        assert dev.run(checkout / "target/debug/app", cwd=checkout).stdout == f"{state}\n"
        seen.append(units["app"])
        dev.run("cargo", "distbuild", "stop", cwd=checkout)
    assert seen == ["local", "local", "hit-local", "hit-local"]


@pytest.mark.parametrize("is_member", [False, True])
def test_a_target_directory_behind_a_link(dev: Developer, tmp_path: Path, is_member: bool) -> None:
    """It may lead to another disk, from within the package or beside it."""
    checkout = tmp_path / "w"
    if is_member:
        workspace(checkout, "fn main() { macros::text_of!(()) }")
    else:
        package(checkout, "app", "", "[workspace]\n")
        (checkout / "src/lib.rs").unlink()
        (checkout / "src/main.rs").write_text("fn main() {}")
    for outcome in ("local", "hit-local"):
        (tmp_path / outcome).mkdir()
        (checkout / "target").unlink(missing_ok=True)
        (checkout / "target").symlink_to(tmp_path / outcome)
        units = {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}
        assert units["app"] == outcome
        dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
        dev.run(checkout / "target/debug/app", cwd=checkout)


def test_what_is_checked(dev: Developer, tmp_path: Path) -> None:
    """cargo sets the times of what `check` has made back, while it is being kept."""
    checkout = workspace(tmp_path / "w", "fn main() {}")
    (checkout / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["app", "macros", "lib*"]\nresolver = "2"\n'
    )
    for number in range(8):
        package(checkout / f"lib{number}", f"lib{number}", "pub fn f() {}")
    for outcome in ("local", "hit-local"):
        dev.run("cargo", "clean", cwd=checkout)
        dev.run("cargo", "distbuild", "check", cwd=checkout)
        assert {unit["outcome"] for unit in dev.units(checkout)} == {outcome}
        dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept


def test_a_server_without_workers_shares_what_was_compiled_elsewhere(tmp_path: Path) -> None:
    main = 'fn main() { println!("{}", macros::text_of!("a note")); }'
    with running_server(tmp_path / "data", "--workers", "0") as server:
        for name, outcome in (("alice", "local"), ("bob", "hit-remote")):
            with developer(tmp_path / name, server.url) as person:
                checkout = workspace(tmp_path / f"{name}s place", main)
                assert built(person, checkout) == (outcome, "a note")


def test_why_a_unit_is_not_kept(dev: Developer, tmp_path: Path) -> None:
    """It turns out behind the build's back, of what is being edited after a while."""
    checkout = tmp_path / "w"
    (tmp_path / "note").write_text("a note")
    source = f'pub const NOTE: &str = include_str!("{tmp_path}/note");\n'
    package(checkout, "app", source, "[workspace]\n")
    wanted = f"the compile reads {tmp_path}/note, which no key names"

    def told() -> str:
        return str(dev.units(checkout)[0]["reason"])

    dev.build(checkout)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept that will be
    provokes("the compile reads …, which no key names", told())
    table = dev.run("cargo", "distbuild", "stats", cwd=checkout).stdout
    assert table.count(wanted) == 2, table
    assert f"reasons for compiling here\n1  {wanted}\n" in table
    said = dev.run("cargo", "distbuild", "why-miss", "app", cwd=checkout).stdout
    assert re.match(rf"app \(lib\): compiled here .* ago \({re.escape(wanted)}\)\n", said), said

    (checkout / "src" / "lib.rs").write_text(f"{source}// edited\n")
    dev.build(checkout)
    until = time.monotonic() + 30
    while told() != wanted:
        assert time.monotonic() < until, told()
        time.sleep(0.2)


def why_a_read_outside_is_not_kept(dev: Developer, directory: Path) -> str:
    """A program that includes a file beside its workspace is compiled anew each time."""
    note = directory.with_name("note")
    note.write_text("a note")
    main = f'fn main() {{ println!("{{}}", include_str!("{note}")); }}'
    checkout = workspace(directory, main)
    seen = []
    for _ in range(2):
        assert built(dev, checkout) == ("local", "a note")
        seen.append(reasons(dev, checkout)["app"])
    assert len(set(seen)) == 1
    return seen[0]


def test_a_program_that_reads_outside(dev: Developer, tmp_path: Path) -> None:
    said = why_a_read_outside_is_not_kept(dev, tmp_path / "w")
    provokes("the compile reads …, which no key names", said)


def test_a_file_of_the_workspace(dev: Developer, tmp_path: Path) -> None:
    """Such as a README beside the packages: the first compile of all is kept already."""
    main = 'fn main() { println!("{}", concat!(include_str!("../../README.md"), "")); }'
    for name, outcome in (("one", "local"), ("two", "hit-local")):
        checkout = workspace(tmp_path / name, main)
        (checkout / "README.md").write_text("to be read")
        assert built(dev, checkout) == (outcome, "to be read")
    (checkout / "README.md").write_text("to be read again")
    assert built(dev, checkout) == ("local", "to be read again")


def test_what_is_mended_is_kept(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", "fn main() { wrong!(); }")
    dev.run("cargo", "distbuild", "build", cwd=checkout, check=False)
    provokes("it does not compile", reasons(dev, checkout)["app"])
    (checkout / "app/src/main.rs").write_text('fn main() { println!("right"); }')
    units = {unit["crate"]: unit["outcome"] for unit in dev.build(checkout)}
    assert units == {"app": "local"}
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
    assert built(dev, checkout) == ("hit-local", "right")


def without_watcher(dev: Developer, tmp_path: Path) -> None:
    """From now on there is none, as where no C compiler is."""
    dev.run("cargo", "distbuild", "doctor", cwd=tmp_path, check=False)
    (dev.home / "bin" / "build-script-launcher").unlink()


def without_bubblewrap(dev: Developer, tmp_path: Path) -> None:
    """From now on it does not start."""
    broken = tmp_path / "bin" / "bwrap"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    dev.extra["PATH"] = f"{broken.parent}:{dev.environment['PATH']}"


def test_a_machine_without_watcher(dev: Developer, tmp_path: Path) -> None:
    """What sees its inputs alone there is kept, and what does not compile then is not."""
    without_watcher(dev, tmp_path)
    main = 'fn main() { println!("{}", macros::text_of!("said")); }'
    for name, outcome in (("one", "local"), ("two", "hit-local")):
        assert built(dev, workspace(tmp_path / name, main)) == (outcome, "said")
    said = why_a_read_outside_is_not_kept(dev, tmp_path / "three")
    provokes("it does not compile where it sees its inputs alone", said)
    checkout = workspace(tmp_path / "four", "fn main() {}", READING_MACRO)
    assert built(dev, checkout) == ("local", "")
    said = reasons(dev, checkout)["app"]
    provokes("what it reads has to be watched, and this machine watches nothing", said)


def test_a_machine_without_bubblewrap_and_watcher(dev: Developer, tmp_path: Path) -> None:
    without_bubblewrap(dev, tmp_path)
    without_watcher(dev, tmp_path)
    checkout = workspace(tmp_path / "w", 'fn main() { println!("said"); }')
    assert built(dev, checkout) == ("local", "said")
    found = reasons(dev, checkout)
    why = found["app"]
    provokes("others' code runs in it, and this machine can neither watch nor confine it", why)
    assert found == {"app": why, "macros": why}


def test_errors_are_shown_once(dev: Developer, tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "w", 'fn main() { macros::text_of!("gone"); wrong!(); }')
    ours = dev.run("cargo", "distbuild", "build", cwd=checkout, check=False)
    dev.run("cargo", "clean", cwd=checkout)
    plain = dev.run("cargo", "build", cwd=checkout, check=False)
    said = [line for line in ours.stderr.splitlines() if "Distbuild" not in line]
    assert ours.returncode == plain.returncode == 101
    assert "\n".join(said).strip() == plain.stderr.strip()
    source = checkout / "app" / "src" / "main.rs"
    source.write_text('fn main() { println!("right"); }')
    assert built(dev, checkout) == ("local", "right")


def test_what_a_build_script_made_in_a_workspace_of_one_package(tmp_path: Path) -> None:
    """OUT_DIR lies below the package then, in a directory that is no part of it."""
    checkout = tmp_path / "app"
    package(checkout, "app", "")
    (checkout / "src" / "lib.rs").unlink()
    (checkout / "src" / "main.rs").write_text(
        'fn main() { println!("{}", include!(concat!(env!("OUT_DIR"), "/made.rs"))); }'
    )
    (checkout / "build.rs").write_text(
        'fn main() { std::fs::copy("setting", std::env::var("OUT_DIR").unwrap() + "/made.rs")'
        ".unwrap(); }"
    )
    with developer(tmp_path / "dev", "none") as dev:
        for number, outcome in ((1, "local"), (1, "hit-local"), (2, "local"), (1, "hit-local")):
            (checkout / "setting").write_text(f"{number}")
            assert built(dev, checkout) == (outcome, f"{number}")
