"""Which macros may run where they see less than cargo would show them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wrapper.inputs.macro_trust import MacroTrust, reads_of


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
        b"for x in dir.read_dir()? {}",
        b'extern "C" { fn open(x: *const u8) -> i32; }',
        b"libc::open(x)",
        b"asm!(x)",
        b"TcpStream::connect(x)",
    ],
)
def test_what_may_read(source: bytes) -> None:
    assert reads_of(source).suspect is not None


def test_named_variables() -> None:
    found = reads_of(b'std::env::var("A"); env::var_os( "B_2" ); // env::var("C")')
    assert found.suspect is None
    assert found.variables == {"A", "B_2", "C"}


def test_a_package_is_read_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "build.rs").write_text("std::fs::read(x)")
    (tmp_path / "tests" / "t.rs").write_text("std::fs::read(x)")
    source = tmp_path / "src" / "lib.rs"
    source.write_text('env::var("A")')
    trust = MacroTrust()
    assert trust.reads([str(tmp_path)]).variables == {"A"}
    source.write_text("fs::read(x)")
    os.utime(source, (2e9, 2e9))
    assert "fs" in str(trust.reads([str(tmp_path)]).suspect)
    assert trust.reads([""]).suspect is not None
