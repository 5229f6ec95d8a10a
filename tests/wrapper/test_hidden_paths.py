"""Paths that do not stand in what was made as they are: another checkout must not get it."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from developers import developer

from tests.wrapper.test_e2e_local import package
from wrapper.build_scripts.kept import _holds
from wrapper.hidden_paths import is_opaque, is_optimized, pieces, pieces_together
from wrapper.result_checks import CompileHere, Unit, environment_not_carried
from wrapper.roots import find_roots
from wrapper.rustc.arguments import parse
from wrapper.whose import fewest_with_pieces

PATH = "/tmp/abcdefgh/ws"
MACRO = """
#[proc_macro]
pub fn root(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    format!("{:?}", std::env::var("CARGO_MANIFEST_DIR").unwrap()).parse().unwrap()
}
"""


def test_pieces() -> None:
    assert pieces([b"/a/b"]) == []
    assert pieces([b"/home/me", b"/home/you"]) == [b"/home/me", b"/home/yo", b"home/you"]
    assert len(pieces([b"/" * 100])) == 16


@pytest.mark.parametrize("home", ["/root/.cargo", "/home/ada/.cargo", "/usr/local/cargo", "/c"])
def test_pieces_that_are_in_every_artifact(home: str) -> None:
    """They say nothing of whose it is; a path taken apart anywhere is found by another."""
    below = "registry/src/index.crates.io-1949cf8c6b5b557f/serde-1.0.0"
    recorded = f"/distbuild/cargo/{below}"
    path = f"{home}/{below}".encode()
    found = pieces([path], [recorded])
    is_short = len(home) < 6
    assert is_short or not any(piece in recorded.encode() for piece in found)
    for shift in range(8):
        text = b"#" * shift + path
        blocks = {text[at : at + 8] for at in range(0, len(text), 8)}
        assert any(piece in block for block in blocks for piece in found)


def test_a_short_directory_above() -> None:
    """Not wherever it is taken apart has it a piece; what lies below has."""
    path = "/tmp/l3/hp/first_checkout"
    found = pieces(fewest_with_pieces(["/tmp/l3/hp", path]))
    for before in range(8):
        text = b"#" * before + path.encode()
        blocks = {text[at : at + 8] for at in range(0, len(text), 8)}
        assert any(piece in block for block in blocks for piece in found)


COMPARES = (
    "42afe8b583f7a598b1e30085200041086a29000042e4ca99bb86edcbbbf30085",
    "42bdfaf4f9c2ae9bb82f85200041086a29000042e1c48da3d6ccd9b3e800858420"
    "00410b6a29000042e4ca99bb86edcbbbf30085",
)
"""What rustc 1.95 makes for wasm32 with -O of a comparison with the text /tmp/abcdefgh/ws, and with
that after `===`: 64-bit constants."""


@pytest.mark.parametrize("code", COMPARES)
def test_pieces_in_webassembly(code: str) -> None:
    made = bytes.fromhex(code)
    assert any(piece in made for piece in pieces([PATH.encode()], is_wasm=True))
    assert not any(piece in made for piece in pieces([b"/tmp/another/ws"], is_wasm=True))


def test_a_beginning_in_webassembly() -> None:
    """Of `==/tmp/a`, where artifacts hold the rest anyway."""
    made = bytes.fromhex("42bdfabca1d78ddc97e10085")
    for path, is_there in (
        (b"/tmp/abcdefgh/ws/registry", True),
        (b"/tmp/bbcdefgh/ws/registry", False),
    ):
        found = pieces([path], ["bcdefgh/ws/registry"], is_wasm=True)
        assert any(piece in made for piece in found) == is_there


@pytest.mark.parametrize("options", [["-O2"], ["-O2", "-flto"], ["-O0"]])
def test_an_object_of_c(tmp_path: Path, options: list[str]) -> None:
    """The optimizer puts a text into the code that copies it, or compresses all of it."""
    source, made = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text("void put(char *to) { __builtin_memcpy(to, ROOT, sizeof ROOT); }\n")
    for path in (PATH, "/another/one"):
        define = f'-DROOT="{path}/x.c"'
        subprocess.run(["cc", *options, define, "-c", source, "-o", made], check=True)
        is_opaque = "-flto" in options
        found = _holds(str(made), {PATH}, pieces_together([PATH.encode()]))
        assert found == (path == PATH or is_opaque)


def test_one_piece_by_chance(tmp_path: Path) -> None:
    """As a checkout in `~/src/libfoo` has in common with `src/libx/a.c`."""
    made = tmp_path / "a.o"
    hidden = pieces_together([b"/home/ada/src/libfoo"])
    made.write_bytes(b"\x7fELF\0/ada/src\0x/src/libx/a.c")
    assert not _holds(str(made), (), hidden)
    made.write_bytes(b"\x7fELF\0x=/home,/ada/src,/libfoo")
    assert _holds(str(made), (), hidden)


@pytest.mark.parametrize("before", range(8))
@pytest.mark.parametrize("length", [16, 18, 22, 23, 28])
def test_a_text_that_is_stored_by_pieces(tmp_path: Path, before: int, length: int) -> None:
    """The last of these overlaps the one before."""
    path = ("/tmp/checkouts/of/mine/" + "abcdefgh" * 2)[:length]
    source, made = tmp_path / "a.c", tmp_path / "a.o"
    text = "=" * before + path
    code = (
        f'void put(char *to) {{ char s[] = "{text}"; for (int i = 0; i < 9; i++) to[i] = s[i]; }}'
    )
    source.write_text(code)
    subprocess.run(["cc", "-O0", "-c", source, "-o", made], check=True)
    assert _holds(str(made), {path}, pieces_together([path.encode()]))


@pytest.mark.cargo
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lto", ["true", '"thin"'])
def test_bitcode(tmp_path: Path, lto: str) -> None:
    manifest = '[workspace]\nresolver = "2"\nmembers = ["app", "lib", "macros"]\n'
    manifest += f"[profile.release]\nlto = {lto}\n"
    library = "pub fn root() -> &'static str { macros::root!() }"
    with developer(tmp_path / "dev", None) as dev:
        for name in ("one", "two"):
            checkout = tmp_path / name
            package(checkout / "macros", "macros", MACRO, "[lib]\nproc-macro = true\n")
            uses = '[dependencies]\nmacros.path = "../macros"\n'
            package(checkout / "lib", "lib", library, uses)
            package(checkout / "app", "app", "", '[dependencies]\nlib.path = "../lib"\n')
            (checkout / "app/src/lib.rs").unlink()
            (checkout / "app/src/main.rs").write_text('fn main() { println!("{}", lib::root()); }')
            (checkout / "Cargo.toml").write_text(manifest)
            dev.build(checkout, "--release")
            dev.run("cargo", "distbuild", "stop", cwd=checkout)  # all is kept that will be
            said = dev.run(checkout / "target/release/app", cwd=checkout).stdout.strip()
            assert said == str(checkout / "lib")


ASKS = MACRO.replace('"CARGO_MANIFEST_DIR"', 'concat!("CARGO_", "MANIFEST_DIR")')
COMPARES_ITS_OWN = """
fn main() { println!("{}", std::env::args().nth(1).unwrap() == macros::root!()); }
"""


@pytest.mark.cargo
@pytest.mark.timeout(300)
def test_a_variable_whose_name_stands_nowhere(tmp_path: Path) -> None:
    """It was seen to be asked for; the path is in instructions alone."""
    said = []
    with (
        tempfile.TemporaryDirectory(prefix="compared-") as above,
        developer(tmp_path / "dev", None) as dev,
    ):
        for name in ("one", "two"):
            checkout = Path(above, name)
            package(checkout / "macros", "macros", ASKS, "[lib]\nproc-macro = true\n")
            package(checkout, "app", "", '[dependencies]\nmacros.path = "macros"\n')
            (checkout / "src/lib.rs").unlink()
            (checkout / "src/main.rs").write_text(COMPARES_ITS_OWN)
            dev.build(checkout, "--release")
            dev.run("cargo", "distbuild", "stop", cwd=checkout)  # all is kept that will be
            said.append(dev.run(checkout / "target/release/app", checkout, cwd=checkout).stdout)
    assert said == ["true\n", "true\n"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [((), False), (("-Copt-level=0",), False), (("-O",), True), (("-Copt-level=s",), True)],
)
def test_whether_texts_may_be_taken_apart(options: tuple[str, ...], wanted: bool) -> None:
    compiled = ("--crate-name=x", "x.rs", "--emit=link", "--out-dir=/t")
    assert is_optimized(parse(("/t/bin/rustc", *compiled, *options))) == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--target=x86_64-unknown-linux-gnu", "-O"), False),
        (("--target=wasm32-unknown-unknown", "-O"), False),
        (("--target=aarch64-unknown-linux-gnu", "-O"), True),
        (("--target=thumbv7em-none-eabihf", "-Copt-level=z"), True),
        (("--target=thumbv7em-none-eabihf",), False),
        (("--target=/ws/x86_64-mine.json", "-O"), True),
        (("--target=x86_64-unknown-linux-gnu", "-Clto"), True),
    ],
)
def test_whether_texts_may_be_where_nobody_looks(options: tuple[str, ...], wanted: bool) -> None:
    compiled = ("--crate-name=x", "x.rs", "--emit=link", "--out-dir=/t")
    assert is_opaque(parse(("/t/bin/rustc", *compiled, *options))) == wanted


HERE = 'fn here() { Path::new(env!("CARGO_MANIFEST_DIR")); }'


@pytest.mark.parametrize(
    ("package", "options", "is_refused"),
    [
        ("cargo/registry/src/index.crates.io-1949cf8c6b5b557f/x-1.0.0", (), False),
        ("cargo/registry/src/index.crates.io-1949cf8c6b5b557f/x-1.0.0", ("-O",), True),
        ("cargo/registry/src/index.crates.io-1949cf8c6b5b557f/x-1.0.0", ("-Clto",), True),
        ("ws/x", (), True),
    ],
)
def test_a_path_that_would_show(
    tmp_path: Path, package: str, options: tuple[str, ...], is_refused: bool
) -> None:
    directory = tmp_path / package
    directory.mkdir(parents=True)
    (directory / "x.rs").write_text(HERE)
    environment = {
        "CARGO_MANIFEST_DIR": str(directory), "CARGO_HOME": str(tmp_path / "cargo"),
        "CARGO_PKG_NAME": "x", "CARGO_PKG_VERSION": "1.0.0",
    }  # fmt: skip
    out = f"{tmp_path}/target/debug/deps"
    argv = ("/t/bin/rustc", "--crate-name=x", f"{directory}/x.rs", "--emit=link", *options)
    invocation = parse((*argv, f"--out-dir={out}"))
    roots = find_roots(
        cwd=str(directory), source=invocation.source, out_dir=out, triple=None,
        environment=environment, sources=None,
    )  # fmt: skip
    unit = Unit(invocation=invocation, roots=roots, environment=environment)
    source = f"{directory}/x.rs"
    dep_info = f"x.d: {source}\n\n{source}:\n\n# env-dep:CARGO_MANIFEST_DIR={directory}\n".encode()
    with pytest.raises(CompileHere) if is_refused else nullcontext():
        assert environment_not_carried(unit, dep_info, set(), lambda _: False) == set()
