"""Units that no worker can compile are kept all the same, under keys that say why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from developers import Developer, with_files_of

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]


def program(directory: Path, main: str, build: str | None = None) -> Path:
    (directory / "src").mkdir(parents=True)
    (directory / "Cargo.toml").write_text(
        '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n\n[workspace]\n'
    )
    (directory / "src" / "main.rs").write_text(main)
    if build is not None:
        (directory / "build.rs").write_text(build)
    return directory


def built(dev: Developer, checkout: Path, flags: str = "") -> str:
    """Where the program came from in a fresh build; it must run."""
    dev.run("cargo", "clean", cwd=checkout)
    environment = {"RUSTFLAGS": flags} if flags else {}
    units = dev.build(checkout, **environment)
    dev.run("cargo", "distbuild", "stop", cwd=checkout)  # waits until all is kept
    dev.run(checkout / "target/debug/app", cwd=checkout)
    (unit,) = [unit for unit in units if unit["kind"] == "bin"]
    assert unit["outcome"] != "local" or unit["reason"].startswith("new"), unit
    return str(unit["outcome"])


@pytest.mark.parametrize(
    "flags",
    [
        "-C target-cpu=native",
        "-C linker=gcc",
        "-C link-arg=-Wl,--as-needed,-z,relro -C link-args=-pthread",
        "-C link-arg=-fuse-ld=bfd",
        "-C link-arg=-lz",
    ],
)
def test_of_this_machine(dev: Developer, tmp_path: Path, flags: str) -> None:
    if "-lz" in flags and not list(Path("/usr/lib").rglob("libz.so")):
        flags = "-C link-arg=-lm"
    checkout = program(tmp_path / "one", "fn main() {}")
    assert [built(dev, checkout, flags) for _ in range(2)] == ["local", "hit-local"]
    other = program(tmp_path / "two", "fn main() {}")
    assert built(dev, other, flags) == "hit-local"
    assert built(dev, other) == "local"


def test_coverage_keeps_its_paths(dev: Developer, tmp_path: Path) -> None:
    flags = "-C instrument-coverage"
    one, two = (program(tmp_path / name, "fn main() {}") for name in ("one", "two"))
    assert [built(dev, one, flags) for _ in range(2)] == ["local", "hit-local"]
    assert built(dev, two, flags) == "local"


@pytest.mark.parametrize("how", ["dylib", "static:-bundle", "attribute"])
def test_a_system_library_that_is_replaced(dev: Developer, tmp_path: Path, how: str) -> None:
    """The linker finds it by itself; another one is another key, whoever had it linked."""
    asked = subprocess.run(
        ["cc", "-print-file-name=libc.so"], capture_output=True, text=True, check=True
    )
    more = tmp_path / "more"
    more.mkdir()
    dev.prefix = with_files_of(more, Path(asked.stdout.strip()).resolve().parent)
    name = "distbuild_test"
    main = 'extern "C" { fn answer() -> i32; }\nfn main() { println!("{}", unsafe { answer() }); }'
    build = f'fn main() {{ println!("cargo::rustc-link-lib={how}={name}"); }}'
    if how == "attribute":
        main = 'include!(concat!(env!("OUT_DIR"), "/made.rs"));' + main.partition("}")[2]
        made = f'#[link(name = \\"{name}\\")] extern \\"C\\" {{{{ fn answer() -> i32; }}}}'
        build = f"""fn main() {{
            let path = std::env::var("OUT_DIR").unwrap() + "/made.rs";
            std::fs::write(path, format!("{made}")).unwrap();
        }}"""
    checkout = program(tmp_path / "one", main, build)
    for answer, outcome in ((1, "local"), (1, "hit-local"), (2, "local"), (2, "hit-local")):
        (tmp_path / "a.c").write_text(f"int answer(void) {{ return {answer}; }}\n")
        subprocess.run(["cc", "-c", "a.c", "-o", "a.o"], cwd=tmp_path, check=True)
        archive = more / f"lib{name}.a"
        archive.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", archive, "a.o"], cwd=tmp_path, check=True)
        assert built(dev, checkout) == outcome
        said = dev.run(checkout / "target/debug/app", cwd=checkout).stdout
        assert said == f"{answer}\n"
