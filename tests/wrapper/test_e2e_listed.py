"""Directories beside a package that its macros list."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from developers import Developer, developer, write
from running import running_server

from tests.wrapper.test_e2e_apart import PACKAGE, prints

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(300)]

LISTS_BESIDE = """#[proc_macro] pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    fn walk(path: std::path::PathBuf, texts: &mut Vec<String>) {
        for each in std::fs::read_dir(path).unwrap().map(|each| each.unwrap().path()) {
            if each.is_dir() { walk(each, texts) }
            else { texts.push(std::fs::read_to_string(each).unwrap()) }
        }
    }
    let mut texts = Vec::new();
    walk((std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../assets").into(), &mut texts);
    texts.sort();
    format!("{:?}", texts.concat()).parse().unwrap()
}"""

FILES = {
    "Cargo.toml": '[workspace]\nresolver = "2"\nmembers = ["app"]\nexclude = ["mac"]\n',
    "app/Cargo.toml": PACKAGE.format("app") + '[dependencies]\nmac.path = "../mac"\n',
    "app/src/main.rs": prints("mac::text!()"),
    "mac/Cargo.toml": PACKAGE.format("mac") + "[lib]\nproc-macro = true\n",
    "mac/src/lib.rs": LISTS_BESIDE,
    "assets/a": "one",
    "assets/deep/b": "two",
}


def made(dev: Developer, workspace: Path, *, anew: bool = True) -> tuple[str, str]:
    """What app says that is built now, and where it came from."""
    if anew:
        shutil.rmtree(workspace / "target", ignore_errors=True)
    dev.build(workspace)
    dev.run("cargo", "distbuild", "stop", cwd=workspace)
    units = {unit["crate"]: unit["outcome"] for unit in dev.units(workspace)}
    return dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip(), units["app"]


def test_a_directory_beside_the_package_that_a_macro_lists(tmp_path: Path) -> None:
    """It counts with all that is in it, for everybody."""
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "one", server.url) as one,
        developer(tmp_path / "two", server.url) as two,
    ):
        first, second = (write(each.directory / "ws", FILES) for each in (one, two))

        assert [made(one, first) for _ in range(2)] == [
            ("onetwo", "local"),
            ("onetwo", "hit-local"),
        ]
        assert made(two, second) == ("onetwo", "hit-remote")
        write(second, {"assets/deep/b": "new"})
        assert made(two, second) == ("newone", "local")
        write(second, {"assets/deep/c": "more", "assets/.git/x": "no part"})
        assert made(two, second)[0] == "morenewno partone"
        write(second, {"assets/.git/x": "never part"})
        assert made(two, second)[0] == "morenever partnewone"
        shutil.rmtree(second / "assets/.git")
        assert made(two, second) == ("morenewone", "local")
        write(first, {"assets/deep/c": "more", "assets/deep/b": "new"})
        assert made(one, first) == ("morenewone", "hit-remote")
        (first / "assets/deep/c").unlink()
        assert made(one, first) == ("newone", "hit-remote")
        shutil.rmtree(first / "assets/deep")
        assert made(one, first) == ("one", "local")


NAMES = LISTS_BESIDE.replace("if each.is_dir() { walk(each, texts) }", "if false {}").replace(
    "std::fs::read_to_string(each).unwrap()", "each.file_name().unwrap().to_str().unwrap().into()"
)


def test_names_alone(dev: Developer) -> None:
    """What is no part of any directory has a name in it all the same."""
    workspace = write(dev.directory / "ws", FILES | {"mac/src/lib.rs": NAMES})
    for said in ("adeep", "adeepnode_modules"):
        for outcome in ("local", "hit-local"):
            assert made(dev, workspace) == (said, outcome)
        (workspace / "assets/node_modules").mkdir(exist_ok=True)


INCLUDES = """#[proc_macro] pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let assets = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../assets";
    let paths = std::fs::read_dir(assets).unwrap().map(|each| each.unwrap().path());
    let mut paths: Vec<_> = paths.map(|each| format!("include_str!({each:?})")).collect();
    paths.sort();
    format!("[{}].concat()", paths.join(",")).parse().unwrap()
}"""


def test_a_directory_with_one_file_is_more_than_that_file(dev: Developer) -> None:
    """Also where all in it is read by name, after the directory is in the key already."""
    workspace = write(dev.directory / "ws", FILES | {"mac/src/lib.rs": INCLUDES})
    shutil.rmtree(workspace / "assets/deep")
    assert made(dev, workspace) == ("one", "local")
    for said in ("two", "three"):
        write(workspace, {"assets/a": said})
        assert made(dev, workspace) == (said, "local")
    write(workspace, {"assets/b": " more"})
    assert made(dev, workspace) == ("three more", "local")
    assert made(dev, workspace) == ("three more", "hit-local")
    (workspace / "assets/b").unlink()
    assert made(dev, workspace) == ("three", "hit-local")


TELLS = """#[proc_macro] pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let assets = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../assets";
    let kind = std::fs::symlink_metadata(&assets).map(|each| each.file_type());
    let names = std::fs::read_dir(&assets).map(|each| each.count());
    let place = std::fs::canonicalize(&assets).map(|each| each.file_name().unwrap().to_owned());
    let text = std::fs::read_to_string(&assets);
    let is_link = kind.map(|each| each.is_symlink());
    format!("{:?}", format!("{:?} {:?} {:?} {:?}", is_link.ok(), names.ok(), place.ok(), text.ok()))
        .parse().unwrap()
}"""


def test_a_listed_directory_that_becomes_something_else(dev: Developer) -> None:
    workspace = write(dev.directory / "ws", FILES | {"mac/src/lib.rs": TELLS})
    assets, said = workspace / "assets", set()

    def tells() -> None:
        text, outcome = made(dev, workspace)
        assert (outcome, text not in said) == ("local", True)
        said.add(text)
        assert made(dev, workspace) == (text, "hit-local")

    tells()
    assets.rename(workspace / "first")
    assets.symlink_to("first")
    tells()
    assets.unlink()
    (workspace / "first").rename(workspace / "second")
    assets.symlink_to("second")
    tells()
    assets.unlink()
    for text in ("A", "B"):
        assets.write_text(text)
        tells()
    assets.unlink()
    tells()


WAIT = "std::thread::sleep(std::time::Duration::from_secs(3));"
WAITS = LISTS_BESIDE.replace("let mut texts", f"{WAIT} let mut texts").replace(
    "texts.sort();", f"{WAIT} texts.sort();"
)


def compiles(target: Path) -> bool:
    """Whether a compile of app is under way there."""
    words = b"--crate-name\0app\0", os.fsencode(target)
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = process.read_bytes()
            if all(each in command for each in words):
                return True
    return False


@pytest.mark.parametrize("path", ["assets/new", "assets/a"])
def test_what_is_put_back_while_it_compiles(dev: Developer, path: str) -> None:
    """It was read in between."""
    workspace = write(dev.directory / "ws", FILES | {"mac/src/lib.rs": WAITS})
    file = workspace / path
    before = file.read_text() if file.exists() else None
    assert made(dev, workspace)[1] == "local"
    write(workspace, {"app/src/main.rs": prints('["now ", mac::text!()].concat()')})

    def change_and_put_back() -> None:
        while not compiles(workspace / "target"):
            time.sleep(0.02)
        file.write_text("between")
        time.sleep(4.5)
        if before is None:
            file.unlink()
        else:
            file.write_text(before)

    thread = threading.Thread(target=change_and_put_back)
    thread.start()
    assert "between" in made(dev, workspace, anew=False)[0]
    thread.join()
    assert made(dev, workspace) == ("now onetwo", "local")
