"""Files of a package that are no part of most compiles: a commit to them is the same work, and what
was read of them counts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from developers import Developer, developer, outcomes, write
from running import running_server

from tests.wrapper.reason_texts import provokes

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

PACKAGE = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'


def prints(expression: str) -> str:
    return f'fn main() {{ println!("{{}}", {expression}); }}'


def includes(path: str) -> str:
    return prints(f'include_str!("{path}").trim()')


ASSEMBLY = """core::arch::global_asm!(
    ".section .rodata.zq,\\"a\\"", ".globl zq", "zq: .incbin \\"examples/x\\"", ".byte 0",
);
unsafe extern "C" { static zq: [u8; 3]; }
fn main() { println!("{}", std::str::from_utf8(unsafe { &*&raw const zq }).unwrap()); }"""
MACRO = """#[proc_macro] pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/tests/x";
    format!("{:?}", std::fs::read_to_string(path).unwrap()).parse().unwrap()
}"""
USES = {
    "Cargo.toml": PACKAGE.format("app") + '[dependencies]\nmac.path = "../mac"\n',
    "../mac/Cargo.toml": PACKAGE.format("mac") + "[lib]\nproc-macro = true\n",
}
CASES = {
    "a text among tests": ("tests/x", {"src/main.rs": includes("../tests/x")}),
    "a hidden file": (".x", {"src/main.rs": includes("../.x")}),
    "a text on top": ("x.md", {"src/main.rs": includes("../x.md")}),
    "beside the crate's root": ("tests/x", {"app.rs": includes("tests/x")}),
    "assembly": ("examples/x", {"src/main.rs": ASSEMBLY}),
    "by a link": ("tests/x", {"src/main.rs": includes("link"), "src/link": "../tests/x"}),
    "by a link to a directory": (
        "docs/x",
        {"src/main.rs": includes("docs/x"), "src/docs": "../docs"},
    ),
    "a module": (
        "benches/x",
        {
            "src/main.rs": '#[path = "../benches/util/mod.rs"] mod util;' + prints("util::X"),
            "benches/util/mod.rs": 'pub const X: &str = include_str!("../x");',
        },
    ),
    "by a macro": (
        "tests/x",
        {"src/main.rs": prints("mac::text!()"), "../mac/src/lib.rs": MACRO, **USES},
    ),
    "by a link of the workspace's": (
        "member/tests/x",
        {
            "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["member"]\n',
            "member/Cargo.toml": PACKAGE.format("app"),
            "member/src/main.rs": includes("../../common/x"),
            "common": "../ws/member/tests",
        },
    ),
    "by a test": ("tests/x", {"src/main.rs": includes("../tests/x"), "tests/t.rs": ""}),
    "what its root names": ("LICENSE", {"src/main.rs": includes("../LICENSE")}),
    "what its root names otherwise": (
        "assets/x",
        {"src/main.rs": prints('include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/x"))')},
    ),
    "what a module names": (
        "assets/x",
        {
            "src/main.rs": "mod text;" + prints("text::X"),
            "src/text.rs": 'pub const X: &str = include_str!("../assets/x");',
        },
    ),
    "of a package inside": (
        "crates/other/x",
        {
            "src/main.rs": "mod text;" + prints("text::X"),
            "src/text.rs": 'pub const X: &str = include_str!("../crates/other/x");',
            "crates/other/Cargo.toml": PACKAGE.format("other") + "[workspace]\n",
        },
    ),
}


def workspace_of(directory: Path, files: dict[str, str]) -> Path:
    links = {name: files[name] for name in files if files[name].startswith("../")}
    binary = '[[bin]]\nname = "app"\npath = "app.rs"\n' if "app.rs" in files else ""
    write(directory, {"Cargo.toml": PACKAGE.format("app") + binary})
    write(directory, {name: text for name, text in files.items() if name not in links})
    for name, target in links.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).symlink_to(target)
    return directory


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_counts(dev: Developer, case: str) -> None:
    path, files = CASES[case]
    workspace = workspace_of(dev.directory / "ws", files)

    def built() -> tuple[str, bool]:
        shutil.rmtree(workspace / "target", ignore_errors=True)
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)  # all is kept that will be
        app = [unit for unit in dev.units(workspace) if unit["crate"] == "app"]
        said = dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip()
        return said, outcomes(app) == {"hit-local"}

    write(workspace, {path: "one"})
    assert [built(), built()] == [("one", False), ("one", True)]
    write(workspace, {path: "two"})
    assert [built(), built()] == [("two", False), ("two", True)]
    write(workspace, {path: "one"})
    assert built() == ("one", True)
    (workspace / path).unlink()
    shutil.rmtree(workspace / "target")
    assert dev.run("cargo", "distbuild", "build", cwd=workspace, check=False).returncode != 0


LISTS = """#[proc_macro] pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/tests/texts";
    let names = std::fs::read_dir(path).unwrap().map(|each| each.unwrap().path());
    let mut texts: Vec<_> = names.map(|each| std::fs::read_to_string(each).unwrap()).collect();
    texts.sort();
    format!("{:?}", texts.concat()).parse().unwrap()
}"""


def test_a_directory_that_a_macro_lists(dev: Developer) -> None:
    files = {"src/main.rs": prints("mac::text!()"), "../mac/src/lib.rs": LISTS, **USES}
    workspace = workspace_of(dev.directory / "ws", files)
    write(workspace, {"tests/texts/x": "one"})
    for found in ({"local"}, {"hit-local"}):
        shutil.rmtree(workspace / "target", ignore_errors=True)
        assert outcomes(dev.build(workspace)) == found
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
    write(workspace, {"tests/texts/y": "two"})
    shutil.rmtree(workspace / "target")
    dev.build(workspace)
    assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip() == "onetwo"


@pytest.mark.parametrize("path", [".git/x", "tests/cache/x", "tests/node_modules/x"])
@pytest.mark.parametrize("by", ["a macro", "assembly"])
def test_what_no_key_has(dev: Developer, by: str, path: str) -> None:
    """What is no part of any package, though it lies in what may be."""
    macro = MACRO.replace("/tests/x", f"/{path}")
    main = prints("mac::text!()") if by == "a macro" else ASSEMBLY.replace("examples/x", path)
    workspace = workspace_of(
        dev.directory / "ws", {"src/main.rs": main, "../mac/src/lib.rs": macro, **USES}
    )
    write(workspace, {"tests/cache/CACHEDIR.TAG": ""})
    for word in ("one", "two"):
        write(workspace, {path: word})
        shutil.rmtree(workspace / "target", ignore_errors=True)
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip() == word


WAYS = {
    "a file": ({"src/main.rs": includes("x"), "src/x": "../.way/x", ".way": "../ws/one"}, ".way"),
    "a link in docs": (
        {"src/main.rs": includes("data/x"), "src/data": "../docs/way", "docs/way": "../one"},
        "docs/way",
    ),
    "over a hidden link": (
        {"src/main.rs": includes("../docs/way/x"), "docs/way": "../.way", ".way": "../ws/one"},
        ".way",
    ),
    "over a link of the workspace's": (
        {
            "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\n',
            "app/Cargo.toml": PACKAGE.format("app"),
            "app/src/main.rs": includes("sh/way/x"),
            "app/src/sh": "../../shared",
            "shared/way": "../way",
            "way": "../ws/app/one",
            "app/one/x": "one",
            "app/two/x": "two",
        },
        "way",
    ),
    "up from tests": ({"src/main.rs": includes("../tests/../one/x")}, "tests"),
    "up from tests, in assembly": (
        {"src/main.rs": ASSEMBLY.replace("examples/x", "tests/../one/x")},
        "tests",
    ),
    "up from beside": (
        {
            "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\n',
            "app/Cargo.toml": PACKAGE.format("app"),
            "app/src/main.rs": includes("../../tests/../one/x"),
        },
        "tests",
    ),
    "by the checkout's name": ({"src/main.rs": includes("../../ws/one/x")}, "../ws"),
}


@pytest.mark.parametrize("case", WAYS)
def test_another_way_to_a_file(dev: Developer, case: str) -> None:
    """What lies on the way leads elsewhere, and all else is the same."""
    files, way = WAYS[case]
    texts = {"one/x": "one", "../other/one/x": "two", "../other/tests/x": "", "tests/x": ""}
    workspace = workspace_of(dev.directory / "ws", {**files, **texts, "two/x": "two"})

    def says(workspace: Path) -> str:
        shutil.rmtree(workspace / "target", ignore_errors=True)
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        return dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip()

    assert says(workspace) == "one"
    path = workspace / way
    if way == "../ws":
        workspace = workspace.rename(dev.directory / "ws2")
        shutil.copytree(dev.directory / "other", dev.directory / "ws")
    elif path.is_symlink():
        target = path.readlink()
        path.unlink()
        path.symlink_to(target.with_name("two"))
    else:
        path.rename(dev.directory / "old")
        path.symlink_to("../other/tests")
    assert says(workspace) == "two"


SLOW = """#![allow(long_running_const_eval)]
const fn slow() -> u64 { let mut i = 0; while i < 900_000 { i += 1; } i }
const _: u64 = slow();
"""


def test_a_directory_that_is_replaced_while_it_is_read(dev: Developer) -> None:
    """It is not yet known to be read. What is compiled then has read the first."""
    files = {"src/main.rs": SLOW + includes("../docs/x"), "docs/x": "one"}
    workspace = workspace_of(dev.directory / "ws", files)
    write(dev.directory / "new", {"x": "two"})
    swap = "sleep 1; mv docs ../old; mv ../new docs"
    with subprocess.Popen(["sh", "-c", swap], cwd=workspace):
        dev.build(workspace)
    for _ in range(2):
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        shutil.rmtree(workspace / "target")
        dev.build(workspace)
        assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip() == "two"


def test_who_once_read_more(dev: Developer) -> None:
    """Another checkout had the sources that read nothing first."""
    reads, other = 'pub const X: &str = include_str!("../docs/x");', 'pub const X: &str = "none";'
    one = workspace_of(dev.directory / "one", {"src/lib.rs": reads, "docs/x": "one"})
    two = workspace_of(dev.directory / "two", {"src/lib.rs": other, "docs/x": "one"})
    for workspace in (one, two):
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
    write(one, {"src/lib.rs": other})
    assert outcomes(dev.build(one)) == {"hit-local"}


def test_what_is_read_no_more(tmp_path: Path) -> None:
    """It counts no more, for whoever comes after."""
    reads = {"src/main.rs": "mod m;" + prints("m::X"), "docs/x": "one", "docs/y": "one"}
    reads["src/m.rs"] = 'pub const X: &str = include_str!("../docs/x");'
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "one", server.url) as one,
        developer(tmp_path / "two", server.url) as two,
    ):
        first = workspace_of(one.directory / "ws", reads)
        less = {**reads, "src/m.rs": 'pub const X: &str = "none";'}
        second = workspace_of(two.directory / "ws", less)

        def built(person: Developer, workspace: Path) -> tuple[str, set[str]]:
            shutil.rmtree(workspace / "target", ignore_errors=True)
            found = outcomes(person.build(workspace))
            person.run("cargo", "distbuild", "stop", cwd=workspace)
            return person.run(workspace / "target/debug/app", cwd=workspace).stdout, found

        assert built(one, first) == ("one\n", {"local"})
        write(first, {"src/m.rs": less["src/m.rs"]})
        assert built(one, first) == ("none\n", {"local"})
        assert built(two, second) == ("none\n", {"hit-remote"})
        for person, workspace, text in ((two, second, "two"), (one, first, "three")):
            write(workspace, {"docs/y": text})
            assert built(person, workspace) == ("none\n", {"hit-local"})
        write(first, {"src/m.rs": reads["src/m.rs"]})
        assert built(one, first) == ("one\n", {"local"})


SCRIPT = """fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rustc-link-search={here}/more\\ncargo:rerun-if-changed=build.rs{}");
}"""
SCRIPTS = {
    "all.ld": "\\ncargo:rustc-link-arg={here}/all.ld",
    "more/libzq.so": "\\ncargo:rustc-link-lib=zq",
}
MAKES_SCRIPT = """fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::create_dir_all(format!("{out}/examples")).unwrap();
    std::fs::write(format!("{out}/libzq.so"), "INCLUDE examples/zq.ld").unwrap();
    std::fs::write(format!("{out}/examples/zq.ld"), "ZQ = 1;").unwrap();
    println!("cargo:rustc-link-search={out}\\ncargo:rustc-link-lib=zq");
    println!("cargo:rerun-if-changed=build.rs");
}"""
LINKS = """unsafe extern "C" { static ZQ: u8; }
fn main() { println!("{}", (&raw const ZQ) as usize); }"""


@pytest.mark.parametrize("name", [*SCRIPTS, "out/libzq.so"])
def test_a_linkers_script_that_comes_before_another(dev: Developer, name: str) -> None:
    """It looks in the package first, where nothing was."""
    files = {
        "build.rs": SCRIPT.replace("{}", SCRIPTS.get(name, "")),
        "src/main.rs": LINKS,
        name: "INCLUDE examples/zq.ld",
    }
    if name.startswith("out/"):
        files["build.rs"] = MAKES_SCRIPT
    workspace = workspace_of(dev.directory / "ws", files)
    dev.extra = {"RUSTFLAGS": "-Crelocation-model=static"}
    write(workspace, {"more/examples/zq.ld": "ZQ = 1;"})
    said = []
    for _ in range(2):
        shutil.rmtree(workspace / "target", ignore_errors=True)
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        said.append(dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip())
        write(workspace, {"examples/zq.ld": "ZQ = 2;"})
    assert said == ["1", "2"]


def test_another_form_of_a_module(dev: Developer) -> None:
    """rustc takes none where there are two."""
    main = '#[path = "../on_top.rs"] mod on_top;' + prints("on_top::tests::X")
    files = {"src/main.rs": main, "on_top.rs": "pub mod tests;", "tests.rs": "pub const X: u8 = 1;"}
    workspace = workspace_of(dev.directory / "ws", files)
    dev.build(workspace)
    dev.run("cargo", "distbuild", "stop", cwd=workspace)
    write(workspace, {"tests/mod.rs": ""})
    shutil.rmtree(workspace / "target")
    done = dev.run("cargo", "distbuild", "build", cwd=workspace, check=False)
    assert "E0761" in done.stderr


def test_a_library_that_a_script_of_the_systems_names(dev: Developer) -> None:
    """The linker looks for it where it is started."""
    workspace = workspace_of(dev.directory / "ws", {"src/main.rs": prints("1")})
    dev.build(workspace)
    dev.run("cargo", "distbuild", "stop", cwd=workspace)
    shutil.rmtree(workspace / "target")
    write(workspace, {"libgcc_s.so.1": "no library"})
    for command in ("build", "distbuild build"):
        done = dev.run("cargo", *command.split(), cwd=workspace, check=False)
        assert "libgcc_s.so.1" in done.stderr


def test_a_moved_checkout(dev: Developer) -> None:
    """What its units have read goes with them."""
    files = {
        "Cargo.toml": PACKAGE.format("app") + '[dependencies]\ndep.path = "dep"\n',
        "src/main.rs": prints("dep::X"),
        "dep/Cargo.toml": PACKAGE.format("dep"),
        "dep/src/lib.rs": 'pub const X: &str = include_str!("../docs/x");',
        "dep/docs/x": "one",
        "dep/CHANGELOG.md": "",
    }
    workspace = write(dev.directory / "ws", files)
    for _ in range(2):  # then it is known what it reads
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        built = workspace.with_name("built")
        shutil.rmtree(built, ignore_errors=True)
        (workspace / "target").rename(built)
    built.rename(workspace / "target")
    moved = workspace.rename(workspace.with_name("moved"))
    write(moved, {"src/main.rs": prints("dep::X.len()")})
    assert {unit["reason"] for unit in dev.build(moved)} == {"new: no cache had it"}


def test_what_nobody_reads(dev: Developer) -> None:
    files = {"src/lib.rs": "", "src/main.rs": "fn main() {}", "build.rs": "fn main() {}"}
    files["README.md"] = "that there is one cargo tells in a variable"
    one = workspace_of(dev.directory / "one", files)
    dev.build(one)
    dev.run("cargo", "distbuild", "stop", cwd=one)
    two = workspace_of(dev.directory / "two", files)
    write(
        two,
        {
            "CHANGELOG.md": "",
            "tests/t.rs": "",
            "docs/x": "",
            ".github/x": "",
            "examples/x.rs": "fn main() {}",
            "README.md": "another",
            "justfile": "",
            "assets/x": "",
            "crates/other/Cargo.toml": PACKAGE.format("other") + "[workspace]\n",
            "crates/other/src/lib.rs": "",
        },
    )
    units = [unit for unit in dev.build(two) if unit["kind"] != "script-run"]
    assert outcomes(units) == {"hit-local"}


@pytest.mark.parametrize(
    "path",
    ['"../assets/x"', '"../../beside"', 'concat!(env!("CARGO_MANIFEST_DIR"), "/assets/x")'],
)
def test_a_worker_that_was_not_given_a_file(tmp_path: Path, path: str) -> None:
    """It says which, and gets it."""
    files = {
        "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\n',
        "app/Cargo.toml": PACKAGE.format("app"),
        "app/src/main.rs": "mod text;" + prints("text::X"),
        "app/src/text.rs": f"pub const X: &str = include_str!({path});",
        "app/assets/x": "read",
        "beside": "read",
    }
    with (
        running_server(tmp_path / "server", "--workers", "1") as server,
        developer(tmp_path / "one", server.url) as one,
        developer(tmp_path / "two", server.url) as two,
    ):
        for person, outcome in ((one, "remote"), (two, "hit-remote")):
            workspace = write(person.directory / "ws", files)
            assert outcomes(person.build(workspace)) == {outcome}
            said = person.run(workspace / "target/debug/app", cwd=workspace).stdout
            assert said == "read\n"


DIRECTIVES = """core::arch::global_asm!(
    ".section .rodata.of_app,\\"a\\"", ".globl of_app", "of_app: .incbin \\"docs/x\\"",
);"""
TEXT = """unsafe extern "C" { static of_app: [u8; 3]; }
pub fn text() -> &'static str { std::str::from_utf8(unsafe { &*&raw const of_app }).unwrap() }
"""
OF_DEPENDENCY = f"#[macro_export] macro_rules! includes {{ () => {{ {DIRECTIVES} }} }}"


@pytest.mark.parametrize("is_own", [True, False], ids=["its own", "a dependency's"])
def test_what_the_assembler_read_before(dev: Developer, is_own: bool) -> None:
    """rustc goes on from what it has assembled, and nothing is opened then."""
    assembles = DIRECTIVES if is_own else "beside::includes!();"
    files = {"src/m.rs": assembles + TEXT, "src/n.rs": "pub const N: u8 = 1;", "docs/x": "one"}
    main = "mod m; mod n;" + prints('format!("{} {}", m::text(), n::N)')
    workspace = workspace_of(dev.directory / "ws", files | {"src/main.rs": main})
    beside = {"Cargo.toml": PACKAGE.format("beside"), "src/lib.rs": OF_DEPENDENCY}
    write(dev.directory / "beside", beside)
    with (workspace / "Cargo.toml").open("a") as manifest:
        manifest.write('[dependencies]\nbeside.path = "../beside"\n')

    def built() -> tuple[dict[str, Any], str]:
        dev.build(workspace)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        units = {unit["crate"]: unit for unit in dev.units(workspace)}
        return units["app"], dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip()

    assert built()[1] == "one 1"
    write(workspace, {"src/n.rs": "pub const N: u8 = 2;"})
    unit, said = built()
    assert said == "one 2"
    provokes("it has assembly, and rustc went on from where it was", unit["reason"])
    write(workspace, {"docs/x": "two"})
    for outcome in ("local", "hit-local"):
        shutil.rmtree(workspace / "target")
        unit, said = built()
        assert (unit["outcome"], said) == (outcome, "two 2")


READ_NO_MORE = {
    "a variable": 'option_env!("REVISION")',
    "a file beside": 'include_str!("../../beside/x")',
}


@pytest.mark.parametrize("case", READ_NO_MORE)
def test_what_was_read_before_counts_no_more(dev: Developer, case: str) -> None:
    around = write(
        dev.directory / "ws", {"Cargo.toml": '[workspace]\nmembers = ["app"]\n', "beside/x": "one"}
    )
    workspace = workspace_of(around / "app", {"src/main.rs": prints('"none"')})

    def built(text: str, revision: str) -> set[str]:
        write(workspace, {"src/main.rs": prints(text)})
        dev.run("cargo", "clean", cwd=workspace)
        units = dev.build(workspace, REVISION=revision)
        dev.run("cargo", "distbuild", "stop", cwd=workspace)
        return outcomes(units)

    assert built(f'format!("{{:?}}", {READ_NO_MORE[case]})', "1") == {"local"}
    assert built('"nothing"', "1") == {"local"}
    write(around, {"beside/x": "two"})
    assert built('"nothing"', "2") == {"hit-local"}
