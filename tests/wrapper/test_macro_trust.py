"""Which macros may run where they see less than cargo would show them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.code_reads import Reads, reads_of_all
from wrapper.inputs.macro_trust import MacroTrust
from wrapper.inputs.package_states import PublishedStates


def reads_of(source: bytes) -> Reads:
    """What a package may read that is this source alone."""
    return reads_of_all({"/p/src/lib.rs": source})


@pytest.mark.parametrize(
    "source",
    [
        b"pub fn f(x: u32) -> u32 { x }",
        b"// std::fs::read(x)\n/* env::var(name) */",
        b'let url = "http://x"; // fs::read(y)',
        b"let c = '\"'; /* fs::read(y) */ let d = '\\''; // fs::read(z)",
        b"let x = tracked_env::var(name); let offset::fsx = 1;",
        b"use std::net::IpAddr; impl X for net::Ipv4Addr {}",
        b"clap::Command::new()",
        b"std::process::abort(); process :: exit(1)",
        b'pub extern "C" fn f() {} type F = unsafe extern "C" fn(u32); word("extern ")',
        b"let s = \"fs::read(x)\"; let c = '{'; mod a {}",
        b"/* a /* nested */ fs::read(x) */",
        b"#[cfg(test)] mod tests { fn f() { fs::read(x) } } fn g() {}",
        b"#[test] #[ignore] fn t() { fs::read(x) } fn g() {}",
        b"#[cfg(all(test, unix))] #[allow(x)] pub(crate) mod t { mod u { fs::read(x) } }",
        b"#[cfg(test)] mod t { const C: char = '}'; const S: &str = \"}\"; fs::read(x) }",
        b"quote! { std::fs::read(#path) }",
        b"quote::quote_spanned!(span=> #(if #path.exists() { env::var(#x) })*)",
    ],
)
def test_what_computes(source: bytes) -> None:
    assert reads_of(source).suspect is None


@pytest.mark.parametrize(
    "source",
    [
        b"std::fs::read(x)",
        b"let c = '\"'; fs::read(y); let d = '\"';",
        b'let url = "http://x"; fs::read(y)',
        b'let s = r#"//"#; fs::read(y)',
        b"fn f<'a>(x: &'a str) -> &'a str { fs::read(x) }",
        b"use std::{env, fs}; fs :: read(x)",
        b"std::env::var(name)",
        b"env::vars()",
        b'use std::env::var; var("X")',
        b"File::open(x)",
        b"std::process::Command::new(x)",
        b"if path.exists() {}",
        b"if path.r#exists() {}",
        b"for x in dir.read_dir()? {}",
        b'extern "C" { fn open(x: *const u8) -> i32; }',
        b"libc::open(x)",
        b"asm!(x)",
        b"TcpStream::connect(x)",
        b"use std::fs as files; files::read(x)",
        b"use std::{env as e, process as p}; e::vars()",
        b"use std::fs::File as F; F::open(x)",
        b"paths.filter(Path::exists)",
        b"type P = Path; P::exists(x)",
        b"SystemTime::now()",
        b"use std::process::{abort, Command};",
        b"extern { fn open(x: *const u8) -> i32; }",
        b'unsafe extern r#"C"# { fn open(x: *const u8) -> i32; }',
        b'/* a /* nested */ " */ fs::read(x) /* " */',
        b"#[cfg(test)] mod tests {} fn g() { fs::read(x) }",
        b"#[test] fn t() {} fn g() { fs::read(x) }",
        b"#[testing] fn t() { fs::read(x) }",
        b"#[cfg(not(test))] mod m { fn f() { fs::read(x) } }",
        b"#[cfg(any(test, unix))] mod m { fn f() { fs::read(x) } }",
        b"#[cfg(test)] mod tests { fs::read(x) ",
        b'#[cfg(test)] mod t { const S: &str = "{"; } fn f() { fs::read(x) }',
        b"quote_spanned!(fs::read(x)=> a)",
        b"quote! { a } + fs::read(x)",
        b"macro_rules! quote { ($x:expr) => { $x } } quote! { fs::read(x) }",
        b"use other::run as quote; quote! { fs::read(x) }",
        b"unquote! { fs::read(x) }",
    ],
)
def test_what_may_read(source: bytes) -> None:
    assert reads_of(source).suspect is not None


@pytest.mark.parametrize(
    ("source", "is_seen"),
    [
        (b'extern "C" { fn open(path: *const u8) -> i32; fn getenv(name: *const u8); }', True),
        (b'extern "C" { fn open(path: *const u8) -> i32; fn geteuid() -> u32; }', False),
        (b"unsafe extern { safe fn uname(to: *mut u8); }", True),
        (b"unsafe extern { safe fn getppid() -> i32; }", False),
        (b"extern { static mut environ: *const u8; }", False),
        (b"use libc::{c_int, getuid}; getuid()", False),
        (b"nix::unistd::getuid()", False),
        (b"fn time(input: TokenStream) { fs::read(x) }", True),
        (b"fs::read(x); SystemTime::now()", True),
        (b"fs::read(x); fs::metadata(x).accessed()", False),
        (b"fs::metadata(x).and_then(|m| fs::Metadata::accessed(&m))", False),
        (b"fs::metadata(x).map(<Metadata as MetadataExt>::atime)", False),
        (b"fs::metadata(x)?.modified(); getuid(); libc::getuid()", False),
    ],
)
def test_what_a_watcher_sees(source: bytes, is_seen: bool) -> None:
    found = reads_of(source)
    assert found.suspect is not None and found.is_seen == is_seen


@pytest.mark.parametrize(
    ("source", "asks_ages"),
    [
        (b"fs::read(x); fs::metadata(x).len()", False),
        (b"fs::read(x); fs::metadata(x).modified()", True),
        (b"fs::metadata(x).and_then(|m| fs::Metadata::created(&m))", True),
        (b"fs::metadata(x).map(<Metadata as MetadataExt>::mtime)", True),
        (b"fs::metadata(x)?.ctime_nsec()", True),
        (b"rustix::fs::stat(x)?.st_mtime", True),
    ],
)
def test_what_asks_how_old_files_are(source: bytes, asks_ages: bool) -> None:
    found = reads_of(source)
    assert found.suspect is not None and found.is_seen and found.asks_ages == asks_ages


def test_what_is_said_of_it_has_one_line() -> None:
    others = "".join(f"    fn other_{number}();\n" for number in range(30))
    found = reads_of(f'extern "C" {{\n{others}    fn getppid() -> i32;\n}}'.encode())
    assert found.suspect is not None and len(found.suspect) < 70 and "\n" not in found.suspect
    assert found.suspect.endswith("fn getppid")


def test_system_calls_of_ones_own(tmp_path: Path) -> None:
    """Libraries tell of what they are asked for, and of nothing that is asked past them."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lib.rs").write_text("fn f() { libc::getrandom(x, 1, 0) } mod calls;")
    trust = MacroTrust(PublishedStates(BuildStarts()))
    assert trust.reads({str(tmp_path): ()}).is_seen
    (tmp_path / "src" / "calls.rs").write_text('fn f() { asm!("syscall") }')
    found = trust.reads({str(tmp_path): ()})
    assert not found.is_seen and "getrandom" in str(found.suspect)


def test_named_variables() -> None:
    found = reads_of(b'std::env::var("A"); env::var_os( "B_2" ); // env::var("C")')
    assert found.suspect is None
    assert found.variables == {"A", "B_2"}


def test_a_package_is_read_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "build.rs").write_text("std::fs::read(x)")
    (tmp_path / "tests" / "t.rs").write_text("std::fs::read(x)")
    source = tmp_path / "src" / "lib.rs"
    source.write_text('env::var("A")')
    trust = MacroTrust(PublishedStates(BuildStarts()))
    assert trust.reads({str(tmp_path): ()}).variables == {"A"}
    source.write_text("fs::read(x)")
    os.utime(source, (2e9, 2e9))
    assert "fs" in str(trust.reads({str(tmp_path): ()}).suspect)
    assert trust.reads({"": ()}).suspect is not None


def _package(directory: Path, **sources: str) -> str | None:
    for name, source in sources.items():
        path = directory / "src" / f"{name.replace('__', '/')}.rs"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return MacroTrust(PublishedStates(BuildStarts())).reads({str(directory): ()}).suspect


READS = "fn f() { fs::read(x) }"


def test_files_of_tests_are_left_out(tmp_path: Path) -> None:
    declared = "#[cfg(test)]\nmod tests;\n#[cfg(test)] mod out;"
    assert _package(tmp_path / "a", lib=declared, tests=READS, out__mod=READS, out__deep=READS) is (
        None
    )
    assert _package(tmp_path / "b", lib="mod a;", a=declared, a__tests=READS) is None


@pytest.mark.parametrize(
    "more",
    [
        {"lib": "mod tests;"},
        {"lib": "#[cfg(test)] mod tests; #[cfg(not(test))] mod tests;"},
        {"lib": "#[cfg(test)] mod tests;", "a": '#[path = "tests.rs"] mod real;'},
        {"lib": "#[cfg(test)] mod tests;", "a": 'include!("tests.rs");'},
        {"lib": "mod a;", "a": "#[cfg(test)] mod tests;"},
        {"lib": '#[cfg(test)] #[path = "x.rs"] mod y; mod tests;'},
    ],
)
def test_files_that_may_be_compiled_in(tmp_path: Path, more: dict[str, str]) -> None:
    assert _package(tmp_path, tests=READS, **more) is not None


def test_a_module_that_is_called_build(tmp_path: Path) -> None:
    assert _package(tmp_path, lib="mod build;", build=READS) is not None


@pytest.mark.parametrize(
    ("source", "is_elsewhere"),
    [
        ('#[path = "util.rs"] mod util; include!("more.rs"); include_str!("../a.txt")', False),
        ('include!("x.rs"); // include!("../x.rs")', False),
        ('include!(concat!(env!("OUT_DIR"), "/x.rs"));', True),
        ('include!(r"x.rs");', True),
        ('#[path = "util.inc"] mod util;', True),
        ("macro_rules! k { ($a:ident) => { std::$a::var(NAME) } }", True),
        ('#[path = "../../shared/util.rs"] mod util;', True),
        ('#[cfg_attr(unix, path = "../../unix.rs")] mod util;', True),
        ('mod gen { #[path = "../helper.rs"] mod helper; }', True),
        ('#[path = r"util.rs"] mod util;', True),
        ('#[path = "/w/util.rs"] mod util;', True),
        ('#[cfg_attr(unix, path = "\\x2e./util.rs")] mod util;', True),
        ('mod gen { #[path = "../sub/../helper.rs"] mod helper; }', True),
        ('mod gen { #[path = "../../a/src/helper.rs"] mod helper; }', True),
        ('include!("../util.rs");', True),
        ('include! { "util.in" }', True),
    ],
)
def test_sources_elsewhere(tmp_path: Path, source: str, is_elsewhere: bool) -> None:
    assert (_package(tmp_path / "a", lib=source) is not None) == is_elsewhere
    assert (
        _package(tmp_path / "registry" / "src" / "index-0123456789abcdef" / "a-1.0.0", lib=source)
        is None
    )


def test_a_module_one_step_up(tmp_path: Path) -> None:
    """As syn 1 has it, which vendored workspaces have too."""
    source = 'mod gen { #[path = "../helper.rs"] mod helper; }'
    assert _package(tmp_path / "a", lib=source, helper="fn f() {}") is None
    assert _package(tmp_path / "b", lib=source, helper=READS) == "b says fs::"
    (tmp_path / "d" / "src").mkdir(parents=True)
    (tmp_path / "d" / "src" / "gen").symlink_to(tmp_path / "a")
    assert _package(tmp_path / "d", lib=source, helper="fn f() {}") is not None
    left_out = tmp_path / "c" / "tests" / "util.rs"
    left_out.parent.mkdir(parents=True)
    left_out.touch()
    assert _package(tmp_path / "c", lib=source.replace("helper.rs", "tests/util.rs")) is not None


@pytest.mark.parametrize(
    ("manifest", "is_compiled_in"),
    [
        ("", False),
        ("not a manifest", False),
        ('[lib]\npath = "src/other.rs"\n[[test]]\npath = "tests/lib.rs"\nname = "x"', False),
        ('[lib]\npath = "tests/lib.rs"', True),
        ('lib.path = "./tests/../lib.rs"', True),
        ('lib = { path = "../elsewhere/lib.rs" }', True),
    ],
)
def test_where_the_library_is(tmp_path: Path, manifest: str, is_compiled_in: bool) -> None:
    """What lies with tests is compiled in if the library is there too, or beside."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "more.rs").write_text(READS)
    (tmp_path / "Cargo.toml").write_text(manifest)
    assert (_package(tmp_path, lib="mod more;") is not None) == is_compiled_in


def test_sources_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "util.rs").write_text(READS)
    (tmp_path / "a" / "src").mkdir(parents=True)
    (tmp_path / "a" / "src" / "loop").symlink_to(tmp_path / "a")
    assert _package(tmp_path / "a", lib="mod shared;") is None
    (tmp_path / "a" / "src" / "shared").symlink_to(tmp_path / "shared")
    assert _package(tmp_path / "a", lib="mod shared;") is not None


def test_a_quote_of_the_packages_own(tmp_path: Path) -> None:
    own = "macro_rules! quote { ($x:expr) => { $x } }"
    assert _package(tmp_path / "a", lib="quote! { fs::read(x) }") is None
    assert _package(tmp_path / "b", lib="quote! { fs::read(x) }", a=own) is not None


@pytest.mark.parametrize(
    ("own", "above", "is_trusted"),
    [
        ('[package]\nname = "a"', "", True),
        ('[package]\nname = "a"', '[workspace.dependencies]\nb = { version = "1" }', True),
        ('[package]\nname = "a"', '[workspace.dependencies]\nb = { package = "c" }', False),
        ('[package]\nname = "a"', '[workspace.dependencies.b]\npackage = "c"', False),
        ('[package]\nname = "a"\nworkspace = "../w"', "", False),
        ('[package]\nname = "a"', "[", False),
        ('[dependencies]\nb = { package = "c" }', "", True),
    ],
)
def test_what_reads_manifests(tmp_path: Path, own: str, above: str, is_trusted: bool) -> None:
    """proc-macro-crate finds the workspace's manifest here, and not on a worker."""
    package = tmp_path / "w" / "members" / "a"
    package.mkdir(parents=True)
    (package / "Cargo.toml").write_text(own)
    (tmp_path / "w" / "Cargo.toml").write_text(above)
    reader = tmp_path / "registry" / "src" / "index" / "proc-macro-crate-3.5.0"
    (reader / "src").mkdir(parents=True)
    (reader / "src" / "lib.rs").write_text("fs::read(x); Command::new(env::var(y))")
    trust = MacroTrust(PublishedStates(BuildStarts()))
    assert trust.reads({str(reader): ()}).suspect is not None
    assert (trust.reads({str(reader): ()}, compiled=str(package)).suspect is None) == is_trusted
    other = reader.parent / "proc-macro-crate-3.5.1"
    reader.rename(other)
    assert trust.reads({str(other): ()}, compiled=str(package)).suspect is not None


def test_libraries_that_a_package_links(tmp_path: Path) -> None:
    source = """
    #[link(name = "one")] unsafe extern "C" {}
    #[cfg_attr(unix, link(kind = "static", name = "two"))] extern "C" {}
    fn link(name: &str) {} // link(name) = "three"
    """
    _package(tmp_path, lib=source)
    assert MacroTrust(PublishedStates(BuildStarts())).linked_by(str(tmp_path)) == {"one", "two"}


def test_sources_whose_time_was_put_back_are_read_again(tmp_path: Path) -> None:
    trust, path = MacroTrust(PublishedStates(BuildStarts())), tmp_path / "src" / "lib.rs"
    _package(tmp_path, lib="fn f() {  }" + " " * len(READS))
    before = path.stat()
    assert trust.reads({str(tmp_path): ()}).suspect is None
    path.write_text(READS.ljust(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert trust.reads({str(tmp_path): ()}).suspect is not None


@pytest.mark.parametrize(
    ("features", "asks_ages"),
    [((), False), (("nightly",), False), (("metadata",), True), (("*",), True)],
)
def test_what_asks_for_ages_by_a_feature(
    tmp_path: Path, features: tuple[str, ...], asks_ages: bool
) -> None:
    for version in ("0.7.4", "0.8.0-beta.1"):
        package = tmp_path / "registry" / "src" / "index" / f"include_dir_macros-{version}"
        _package(package, lib="fn f() { if cfg!(feature = x) { fs::metadata(p)?.modified() } }")
        found = MacroTrust(PublishedStates(BuildStarts())).reads({str(package): features})
        assert found.suspect is not None and found.is_seen and found.asks_ages == asks_ages


@pytest.mark.parametrize(
    ("source", "copies"),
    [
        ('#[link(name = "x")] extern "C" {}', False),
        ('#[link(name = "x", kind = "dylib")] extern "C" {}', False),
        ('#[link(name = "x", kind = "raw-dylib")] extern "C" {}', False),
        ('#[link(name = "x", kind = "static")] extern "C" {}', True),
        ('#[cfg_attr(unix, link(kind = "static", name = "x"))] extern "C" {}', True),
        ('#[link(name = "x", kind = r#"static"#)] extern "C" {}', True),
        ("#[link(name = $n, kind = $k)] extern {}", True),
        ('let kind = "static"; link(kind)', False),
    ],
)
def test_what_copies_libraries(tmp_path: Path, source: str, copies: bool) -> None:
    _package(tmp_path, lib=source)
    trust = MacroTrust(PublishedStates(BuildStarts()))
    assert trust.copies_libraries(str(tmp_path)) == copies
