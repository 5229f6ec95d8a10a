"""Paths that a program computes with are its own checkout's, whoever asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import developer, of_scripts
from running import running_server

from tests.wrapper.test_e2e_local import built, package

MACROS = """
#[macro_export] macro_rules! root { () => { env!("CARGO_MANIFEST_DIR") } }
#[macro_export] macro_rules! out { () => { env!("OUT_DIR") } }
"""
FILE = 'const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/x.txt"));'
OF_ROOT = f"""{FILE} const SIZE: usize = macros::root!().len();
fn main() {{ println!("{{}} {{SIZE}}", TEXT.trim()); }}"""
OF_OUT = """const SIZE: usize = macros::out!().len();
fn main() { println!("text {SIZE}"); }"""
PUT_TOGETHER = """const SIZE: usize = env!(concat!("CARGO_MANIFEST", "_DIR")).len();
fn main() { println!("text {SIZE}"); }"""


def checkout(directory: Path, main: str) -> Path:
    """A program that computes with the path of its package."""
    package(directory / "macros", "macros", MACROS)
    package(directory / "app", "app", "", '[dependencies]\nmacros.path = "../macros"\n')
    (directory / "app/src/lib.rs").unlink()
    (directory / "app/src/main.rs").write_text(main)
    (directory / "app/build.rs").write_text("fn main() {}")
    (directory / "app/x.txt").write_text("text")
    (directory / "Cargo.toml").write_text('[workspace]\nmembers = ["app", "macros"]\n')
    return directory


@pytest.mark.cargo
@pytest.mark.timeout(300)
@pytest.mark.parametrize("main", [OF_ROOT, PUT_TOGETHER])
def test_a_path_of_the_package(tmp_path: Path, main: str) -> None:
    with developer(tmp_path / "dev", None) as dev:
        for name in ("one", "another"):
            root = checkout(tmp_path / name, main)
            for _ in range(2):
                assert built(dev, root)[1] == f"text {len(str(root / 'app'))}"


@pytest.mark.cargo
@pytest.mark.timeout(300)
def test_a_path_that_another_crates_macro_asks_for(tmp_path: Path) -> None:
    with developer(tmp_path / "dev", None) as dev:
        for name in ("one", "another"):
            root = checkout(tmp_path / name, OF_OUT)
            _, said = built(dev, root)
            outs = of_scripts(root / "target/debug", "app", "out")
            assert {f"text {len(str(path))}" for path in outs} == {said}


@pytest.mark.cargo
@pytest.mark.timeout(300)
def test_a_worker_has_other_paths(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "server", "--workers", "1") as server,
        developer(tmp_path / "dev", server.url) as dev,
    ):
        root = checkout(tmp_path / "one", OF_ROOT)
        assert built(dev, root)[1] == f"text {len(str(root / 'app'))}"


@pytest.mark.cargo
@pytest.mark.timeout(300)
def test_a_name_for_a_path_in_optimized_code_of_a_worker(tmp_path: Path) -> None:
    """What others' packages are called in messages looks somewhat like the worker's directory."""
    with (
        running_server(tmp_path / "server", "--workers", "1") as server,
        developer(tmp_path / "dev", server.url) as dev,
    ):
        element = "pub fn element(of: &[u8], at: usize) -> u8 { of[at] }"
        package(tmp_path / "outside", "outside", element)
        root = tmp_path / "ws"
        package(root, "app", "", '[dependencies]\noutside.path = "../outside"\n[workspace]\n')
        units = dev.build(root, "--release")
        assert {unit["crate"]: unit["outcome"] for unit in units}["outside"] == "remote"
        (library,) = (root / "target/release/deps").glob("liboutside-*.rlib")
        assert b"/distbuild/cargo/package/" in library.read_bytes()
