"""What a crate lets others name through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.macro_trust import MacroTrust
from wrapper.inputs.package_states import PublishedStates
from wrapper.inputs.re_exports import re_exports_of


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"use mac::make; make!(x); #[derive(mac::Make)] struct S; mac::make!{}",
        b"use mac::Make as _; pub use std::fmt;",
        b"#[macro_use] extern crate mac; pub extern crate alloc;",
        b'// pub use mac::*;\n/* pub use mac; */ const S: &str = "pub use mac;";',
        b"use other::*; pub use self::a::*; pub use crate::b::C;",
        b"#[cfg(test)] mod tests { use mac::*; } pub use a::b;",
        b"pub use macro_free; pub mod mac_like {}",
        b"macro_rules! m { () => { use $crate::x; } }",
        b'const S: &str = "use it"; fn f() -> u32 { 1 }',
    ],
)
def test_kept_to_itself(source: bytes) -> None:
    assert not re_exports_of([b"mod a;", source]).hands_on("mac")


@pytest.mark.parametrize(
    "source",
    [
        b"pub use mac::make;",
        b"pub use ::mac;",
        b"pub use {a::b, mac::*};",
        b"pub(crate) use mac::make;",
        b"pub extern crate mac;",
        b"pub mod __private { pub use mac; }",
        b"extern crate mac as inner; pub use inner::make;",
        b"use mac as inner; pub use inner::make;",
        b"use mac::{self as inner}; pub use self::inner::make;",
        b"use mac::sub; use sub::deeper; pub use deeper::make;",
        b"use mac::*; pub use sub::make;",
        b"#[doc(hidden)]\npub /* so */ use // that\n mac::make;",
        b'include!(concat!(env!("OUT_DIR"), "/x.rs"));',
        b"macro_rules! hand_on { ($x:ident) => { pub use $x::*; } } hand_on!(mac);",
        b"#![feature(decl_macro)] pub macro m() { mac::make!() }",
        b'const S: &str = "use it"; pub use mac::make; const T: &str = ";";',
    ],
)
def test_handed_on(source: bytes) -> None:
    assert re_exports_of([b"mod a;", source]).hands_on("mac")


@pytest.mark.parametrize(
    "source",
    [
        b"pub use mac /* ; */ ::make; fn f() {}",
        b"pub use mac::make; // use it; or not",
        b'pub use mac::make; const S: &str = "use;"; fn f() {}',
        b"pub extern /* so */ crate mac; fn f() {}",
        b"fn f() {} pub use mac::make;",
        b"#[cfg(test)] mod tests {} pub use mac::make; fn f() {}",
    ],
)
def test_wherever_the_last_statement_ends(source: bytes) -> None:
    assert re_exports_of([source]).hands_on("mac")


def test_tests_hand_nothing_on() -> None:
    source = b"pub use other::*; #[cfg(test)] mod tests { use mac::*; pub use mac::b; fn f() {} }"
    assert not re_exports_of([source]).hands_on("mac")


def test_statements_of_several_files() -> None:
    sources = [b"use mac as inner;", b"pub use crate::inner::make;"]
    assert re_exports_of(sources).hands_on("mac")
    assert not re_exports_of(sources).hands_on("other")


def test_a_package(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lib.rs").write_text("mod a;")
    (tmp_path / "src" / "a.rs").write_text("pub use mac::make;")
    assert MacroTrust(PublishedStates(BuildStarts())).hands_on(str(tmp_path), "mac")
    assert not MacroTrust(PublishedStates(BuildStarts())).hands_on(str(tmp_path), "other")
    assert MacroTrust(PublishedStates(BuildStarts())).hands_on("", "other")


@pytest.mark.parametrize(
    ("source", "hands_on"),
    [
        ('#[path = "../examples/r.rs"] pub mod r;', True),
        ('#[path = "../../common/r.rs"] pub mod r;', True),
        ('#[path = "r.txt"] pub mod r;', True),
        ('include!("../examples/r.rs");', True),
        ('include!("has.in");', True),
        ('include!("none.in");', False),
        ('#[path = "r.rs"] pub mod r;', False),
        ('mod made { include!(concat!(env!("OUT_DIR"), "/made.rs")); }', False),
    ],
)
def test_code_of_a_package_that_lies_elsewhere(tmp_path: Path, source: str, hands_on: bool) -> None:
    """Nobody looks there."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lib.rs").write_text(source)
    (tmp_path / "src" / "r.rs").touch()
    (tmp_path / "src" / "none.in").touch()
    handed_on = 'macro_rules! here { () => { env!("CARGO_MANIFEST_DIR") } }'
    (tmp_path / "src" / "has.in").write_text(handed_on)
    trust = MacroTrust(PublishedStates(BuildStarts()))
    assert trust.hands_on(str(tmp_path), "mac") == (hands_on or "include!" in source)
    assert trust.hands_on_value(str(tmp_path), "CARGO_MANIFEST_DIR") == hands_on
