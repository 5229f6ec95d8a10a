"""What lies beside a package counts, whatever it is and by whatever path it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import Developer, write

from tests.wrapper.test_e2e_macros import EXISTS, built, workspace
from tests.wrapper.test_e2e_same_work import PACKAGE, members, said
from tests.wrapper.test_e2e_same_work import built as units_of

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

LINK = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    literal(format!("{:?}", std::fs::read_link(package().join(word(&input))).ok()))
}
"""
IN_TARGET = """
#[proc_macro]
pub fn say(input: TokenStream) -> TokenStream {
    let file = package().join("../target/debug/deps").join(word(&input));
    literal(std::fs::read_to_string(file).unwrap_or("nothing".into()))
}
"""
SAYS_Q = 'unsafe extern "C" { fn q() -> u8; }\npub fn said() -> u8 { unsafe { q() } }'


@pytest.mark.parametrize(
    "said_by_script",
    [
        "rustc-link-search=native={here}/../native\\ncargo:rustc-link-lib=static=q",
        "rustc-link-search={here}/../native\\ncargo:rustc-link-lib=static:+whole-archive=q",
        "rustc-link-search=native={here}/../native/../native\\ncargo:rustc-link-lib=q",
    ],
)
def test_libraries_in_a_directory_that_is_named_upwards(
    dev: Developer, said_by_script: str
) -> None:
    ws = members(dev.directory / "ws", SAYS_Q)
    script = f"""fn main() {{
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:{said_by_script}");
    println!("cargo:rerun-if-changed=build.rs");
}}"""
    write(ws, {"dep/build.rs": script})
    native = ws / "native"
    native.mkdir()
    for value, outcome in (("1", "local"), ("1", "hit-local"), ("2", "local")):
        (native / "q.c").write_text(f"unsigned char q(void) {{ return {value}; }}")
        (native / "libq.a").unlink(missing_ok=True)
        dev.run("cc", "-c", "-fPIC", "q.c", cwd=native)
        dev.run("ar", "crs", "libq.a", "q.o", cwd=native)
        (unit,) = (u for u in units_of(dev, ws) if (u["crate"], u["kind"]) == ("app", "bin"))
        assert (unit["outcome"], said(dev, ws)) == (outcome, value)


def test_a_directory_comes_where_there_was_nothing(dev: Developer, tmp_path: Path) -> None:
    here = workspace(tmp_path / "w", EXISTS, "../migrations")
    assert [built(dev, here) for _ in range(2)] == [("local", "false"), ("hit-local", "false")]
    (here / "migrations").mkdir()
    assert [built(dev, here) for _ in range(2)] == [("local", "true"), ("hit-local", "true")]
    (here / "migrations").rmdir()
    assert built(dev, here) == ("hit-local", "false")


@pytest.mark.parametrize("name", ["../shared/current", "current"])
def test_a_link_turns_to_the_same(dev: Developer, tmp_path: Path, name: str) -> None:
    """One beside the package, or one in it that leads out."""
    here = workspace(tmp_path / "w", LINK, name)
    write(here / "shared", {"one": "same", "two": "same"})
    link = here / "app" / name
    way = "" if name.startswith("..") else "../shared/"
    for target in ("one", "two"):
        link.unlink(missing_ok=True)
        link.symlink_to(way + target)
        wanted = f'Some("{way}{target}")'
        assert [built(dev, here) for _ in range(2)] == [("local", wanted), ("hit-local", wanted)]
    link.unlink()
    link.write_text("same")
    assert built(dev, here) == ("local", "None")


def test_a_file_where_dependencies_are_made(dev: Developer, tmp_path: Path) -> None:
    """The host's, of which cargo names the directory where it compiles for a target."""
    here = workspace(tmp_path / "w", IN_TARGET, "state")
    with (here / "Cargo.toml").open("a") as manifest:
        manifest.write("# for a target\n")
    host = dev.run("rustc", "--print", "host-tuple", cwd=here).stdout.strip()
    for state in ("one", "two"):
        write(here / "target/debug/deps", {"state": state})
        (here / "app/src/main.rs").touch()
        for arguments in ((), ("--target", host)):
            dev.run("cargo", "distbuild", "build", *arguments, cwd=here)
            program = here / "target" / ("/".join(arguments[1:])) / "debug/app"
            assert dev.run(program, cwd=here).stdout.strip() == state
        dev.run("cargo", "distbuild", "stop", cwd=here)


def test_programs_that_are_called_like_build_scripts(dev: Developer) -> None:
    ws = dev.directory / "ws"
    source = 'fn main() { println!("a tool"); }'
    files = {
        "Cargo.toml": PACKAGE.replace("{}", "app"),
        "src/bin/build-script-gen.rs": source,
        "src/bin/build_script_build.rs": source,
    }
    write(ws, files)
    for outcome in ("local", "hit-local"):
        units = units_of(dev, ws)
        assert {(u["kind"], u["outcome"]) for u in units} == {("bin", outcome)}
        for name in ("build-script-gen", "build_script_build"):
            assert dev.run(ws / "target/debug" / name, cwd=ws).stdout == "a tool\n"
