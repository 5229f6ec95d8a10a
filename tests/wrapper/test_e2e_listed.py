"""Directories beside a package that its macros list."""

from __future__ import annotations

import shutil
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


def test_a_directory_beside_the_package_that_a_macro_lists(tmp_path: Path) -> None:
    """It counts with all that is in it, for everybody."""
    with (
        running_server(tmp_path / "server", "--workers", "0") as server,
        developer(tmp_path / "one", server.url) as one,
        developer(tmp_path / "two", server.url) as two,
    ):
        first, second = (write(each.directory / "ws", FILES) for each in (one, two))

        def built(person: Developer, workspace: Path) -> tuple[str, str]:
            shutil.rmtree(workspace / "target", ignore_errors=True)
            units = {unit["crate"]: unit["outcome"] for unit in person.build(workspace)}
            person.run("cargo", "distbuild", "stop", cwd=workspace)
            said = person.run(workspace / "target/debug/app", cwd=workspace).stdout
            return said.strip(), units["app"]

        assert [built(one, first) for _ in range(2)] == [
            ("onetwo", "local"),
            ("onetwo", "hit-local"),
        ]
        assert built(two, second) == ("onetwo", "hit-remote")
        write(second, {"assets/deep/b": "new"})
        assert built(two, second) == ("newone", "local")
        write(second, {"assets/deep/c": "more", "assets/.git/x": "no part"})
        assert built(two, second)[0] == "morenewno partone"
        write(second, {"assets/.git/x": "never part"})
        assert built(two, second)[0] == "morenever partnewone"
        shutil.rmtree(second / "assets/.git")
        assert built(two, second) == ("morenewone", "local")
        write(first, {"assets/deep/c": "more", "assets/deep/b": "new"})
        assert built(one, first) == ("morenewone", "hit-remote")
        (first / "assets/deep/c").unlink()
        assert built(one, first) == ("newone", "hit-remote")
        shutil.rmtree(first / "assets/deep")
        assert built(one, first) == ("one", "local")


NAMES = LISTS_BESIDE.replace("if each.is_dir() { walk(each, texts) }", "if false {}").replace(
    "std::fs::read_to_string(each).unwrap()", "each.file_name().unwrap().to_str().unwrap().into()"
)


def test_names_alone(dev: Developer) -> None:
    """What is no part of any directory has a name in it all the same."""
    workspace = write(dev.directory / "ws", FILES | {"mac/src/lib.rs": NAMES})
    for said in ("adeep", "adeepnode_modules"):
        for outcome in ("local", "hit-local"):
            shutil.rmtree(workspace / "target", ignore_errors=True)
            units = {unit["crate"]: unit["outcome"] for unit in dev.build(workspace)}
            dev.run("cargo", "distbuild", "stop", cwd=workspace)
            assert dev.run(workspace / "target/debug/app", cwd=workspace).stdout.strip() == said
            assert units["app"] == outcome
        (workspace / "assets/node_modules").mkdir(exist_ok=True)
