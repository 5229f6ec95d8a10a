"""The wrapper's reading of rustc command lines."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrapper.rustc.arguments import Extern, Invocation, NotUnderstood, Probe, parse
from wrapper.rustc.options import CODEGEN, SHORT_VALUED, VALUED

RUSTC = "/toolchain/bin/rustc"
LIB = """--crate-name core_lib --edition=2021 crates/core/src/lib.rs --error-format=json
--json=diagnostic-rendered-ansi,artifacts,future-incompat --diagnostic-width=120 --crate-type lib
--emit=dep-info,metadata,link -C embed-bitcode=no -C debuginfo=2 --cfg 'feature="std"'
--check-cfg 'cfg(docsrs,test)' -C metadata=1122334455667788 -C extra-filename=-99aabbccddeeff00
--out-dir /ws/target/debug/deps -C incremental=/ws/target/debug/incremental
-L dependency=/ws/target/debug/deps --extern anyhow=/ws/target/debug/deps/libanyhow-12.rmeta
--extern priv:mac=/ws/target/debug/deps/libmac-34.so"""


def read(text: str) -> Invocation:
    """Parse the rest of a command line."""
    return parse([RUSTC, *shlex.split(text)])


def with_options(extra: str) -> Invocation:
    """The library above with further options."""
    return read(f"{LIB} {extra}")


def test_a_library() -> None:
    found = read(LIB)
    assert found.driver == RUSTC
    assert found.source == "crates/core/src/lib.rs"
    assert found.crate_name == "core_lib"
    assert found.crate_types == ("lib",)
    assert found.emit == {"dep-info", "metadata", "link"}
    assert found.out_dir == "/ws/target/debug/deps"
    assert found.extra_filename == "-99aabbccddeeff00"
    assert found.incremental == "/ws/target/debug/incremental"
    assert found.library_paths == (("dependency", "/ws/target/debug/deps"),)
    assert found.externs == (
        Extern(spec="anyhow", path="/ws/target/debug/deps/libanyhow-12.rmeta"),
        Extern(spec="priv:mac", path="/ws/target/debug/deps/libmac-34.so"),
    )
    assert not found.is_test
    assert not found.links
    assert not found.needs_rlibs


OF_FUZZERS = (
    "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args='-sanitizer-coverage-pc-table -sanitizer-coverage-trace-compares'",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
)


@pytest.mark.parametrize("options", OF_FUZZERS)
def test_options_of_fuzzers(options: str) -> None:
    assert with_options(options).options != with_options("").options


@pytest.mark.parametrize(
    "option",
    ["passes=x", "llvm-args=-load=x.so", "llvm-args=-sanitizer-coverage-allowlist=/x",
     "llvm-args=-sanitizer-coverage-level=4 -load=x.so"],
)  # fmt: skip
def test_options_that_read(option: str) -> None:
    with pytest.raises(NotUnderstood, match="may read files"):
        with_options(f"-C '{option}'")


def test_options_of_the_session_are_left_out() -> None:
    found = with_options("--color always")
    names = [name for name, _ in found.options]
    assert "--diagnostic-width" not in names
    assert "--color" not in names
    assert not any((value or "").startswith("incremental=") for _, value in found.options)
    assert ("--codegen", "debuginfo=2") in found.options


def test_options_keep_their_order_and_repetitions() -> None:
    found = with_options("-Aunused -D warnings -A=x")
    tail = [option for option in found.options if option[0] in ("--allow", "--deny")]
    assert tail == [("--allow", "unused"), ("--deny", "warnings"), ("--allow", "=x")]


@pytest.mark.parametrize(
    ("extra", "links", "needs_rlibs"),
    [
        ("--crate-type lib", False, False),
        ("--crate-type rlib", False, False),
        ("--crate-type bin", True, True),
        ("--crate-type proc-macro", True, True),
        ("--crate-type cdylib", True, True),
        ("--crate-type dylib", True, True),
        ("--crate-type staticlib", False, True),
        ("--crate-type rlib --crate-type cdylib", True, True),
        ("--crate-type lib,staticlib", False, True),
        ("--test", True, True),
        ("", True, True),
    ],
)
def test_what_links(extra: str, links: bool, needs_rlibs: bool) -> None:
    base = f"--crate-name x src/x.rs --out-dir /t/deps {extra}"
    linked = read(f"{base} --emit=dep-info,link")
    assert (linked.links, linked.needs_rlibs) == (links, needs_rlibs)
    checked = read(f"{base} --emit=dep-info,metadata")
    assert (checked.links, checked.needs_rlibs) == (False, False)


def test_clippy_gets_rustcs_path_first() -> None:
    found = parse(["/toolchain/bin/clippy-driver", RUSTC, *shlex.split(LIB)])
    assert found.driver == "/toolchain/bin/clippy-driver"
    assert found.source == "crates/core/src/lib.rs"


def test_libraries_and_search_paths() -> None:
    found = with_options("-L native=/out/a -L /out/b -lstatic=x -l dylib=y -lz --extern proc_macro")
    assert found.library_paths[1:] == (("native", "/out/a"), ("all", "/out/b"))
    assert found.native_libraries == ("static=x", "dylib=y", "z")
    assert found.externs[-1] == Extern(spec="proc_macro", path=None)


def test_the_last_codegen_value_counts() -> None:
    found = with_options(
        "-C opt-level=1 -Copt-level=3 -C lto --codegen=panic=abort -C metadata=a=b"
    )
    assert found.codegen("opt-level") == "3"
    assert found.codegen("lto") == ""
    assert found.codegen("panic") == "abort"
    assert found.codegen("metadata") == "a=b"
    assert found.codegen("strip") is None


@pytest.mark.parametrize(
    "text",
    [
        "-vV",
        "-V",
        "--version --verbose",
        "- --crate-name ___ --print=file-names --crate-type bin --print=cfg",
        "- --crate-name ___ --print file-names",
        "--print sysroot",
        "--crate-name probe --emit=dep-info,metadata --out-dir /o -",
        "--help",
    ],
)
def test_questions_are_probes(text: str) -> None:
    with pytest.raises(Probe):
        read(text)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("--no-such-option", "--no-such-option"),
        ("-Xfoo", "-Xfoo"),
        ("-C profile-use=/tmp/p", "profile-use"),
        ("-C save-temps", "save-temps"),
        ("-Zself-profile", "-Z"),
        ("-Zcodegen-backend=/tmp/own.so", "-Z"),
        ("-Zcodegen_backend=own.so", "-Z"),
        ("-Ztune-cpu=native", "-Z"),
        ("--sysroot /other", "--sysroot"),
        ("--remap-path-prefix=/a=/b", "--remap-path-prefix"),
        ("-o out", "-o"),
        ("@arguments", "from a file"),
        ("--emit=obj", "obj"),
        ("--emit=link=/tmp/x", "link=/tmp/x"),
        ("--emit=metadata=/tmp/x", "metadata=/tmp/x"),
        ("--target spec.json", "target specification"),
        ("other.rs", "2 source files"),
        ("--cfg", "no value"),
        ("-C", "no value"),
        ("--crate-type nonsense", "nonsense"),
    ],
)
def test_what_plain_rustc_must_do(extra: str, reason: str) -> None:
    with pytest.raises(NotUnderstood, match=reason):
        with_options(extra)


@pytest.mark.parametrize(
    "text",
    [
        "src/x.rs --out-dir /t --emit=link",
        "--crate-name x src/x.rs --emit=link",
        "--crate-name x src/x.rs --out-dir /t",
        "--crate-name x --out-dir /t --emit=link",
        "",
    ],
)
def test_an_incomplete_compile_is_not_understood(text: str) -> None:
    with pytest.raises(NotUnderstood):
        read(text)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                sorted(VALUED) + sorted(SHORT_VALUED) + [f"-C{name}" for name in sorted(CODEGEN)]
            ),
            st.sampled_from(["--test", "-g", "-O", "-", "--", "=", "--emit=link", "--out-dir=/o"]),
            st.text(max_size=12),
        ),
        max_size=12,
    )
)
def test_any_command_line_is_read_or_refused(arguments: list[str]) -> None:
    """Nothing but the two documented exceptions comes out."""
    try:
        found = parse([RUSTC, *arguments])
    except (NotUnderstood, Probe):
        return
    assert found.crate_name in " ".join(arguments)
    assert found.source in arguments


@pytest.mark.parametrize("separator", ["=", " "])
def test_equals_sign_and_space_mean_the_same(separator: str) -> None:
    values = {"--crate-name": "x", "--out-dir": "/t", "--emit": "link", "--crate-type": "lib"}
    text = " ".join(f"{name}{separator}{value}" for name, value in values.items())
    found = read(f"{text} src/x.rs")
    assert (found.crate_name, found.out_dir, found.crate_types) == ("x", "/t", ("lib",))
    assert ("--crate-name", "x") in found.options
