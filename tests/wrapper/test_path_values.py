"""Telling a use of a path's value from reading a file through it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wrapper.path_values import explains, mentions, uses_value, values_handed_on

NAME = "OUT_DIR"


@pytest.mark.parametrize(
    "source",
    [
        'include!(concat!(env!("OUT_DIR"), "/x.rs"));',
        'include_str!(concat!(env!("OUT_DIR"), "/x.txt"))',
        'include_bytes! [ concat! { env! ( "OUT_DIR" ), "/x" } ]',
        'include!(\n    concat!(\n        env!("OUT_DIR"),\n        "/x.rs"\n    )\n);',
        'core::include!(concat!(env!("OUT_DIR"), "/x.rs"));',
        '::std::include!(::std::concat!(::std::env!("OUT_DIR"), "/x.rs"));',
        'include!(core::concat!(env!("OUT_DIR"), "/x.rs"));',
        'include!(env!("OUT_DIR"));',
        'include_str!( std::env!("OUT_DIR") )',
        'env!("OUT_DIR_2")',
        'env!("MY_OUT_DIR")',
        'std::env::var("OUT_DIR")',
        'env::var_os( "OUT_DIR" )',
        'include!(concat!(env!($name), "/x.rs"))',
        'env!(concat!("CARGO_BIN_EXE_", $name))',
        'env!(std::concat!("IN", "_DIR"))',
        "",
    ],
)
def test_only_files_are_read(source: str) -> None:
    assert not uses_value(source.encode(), NAME)


@pytest.mark.parametrize(
    "source",
    [
        'const D: &str = env!("OUT_DIR");',
        'env!("OUT_DIR").len()',
        'option_env!("OUT_DIR")',
        'env! { "OUT_DIR" }',
        'std::env!["OUT_DIR"]',
        'env!("OUT_DIR", "set it")',
        'concat!(env!("OUT_DIR"), "/x")',
        'println!(concat!(env!("OUT_DIR"), "/x"))',
        'include!(concat!(env!("OUT_DIR"), "/a.rs")); const D: &str = env!("OUT_DIR");',
        'env!(r"OUT_DIR")',
        'env!(r#"OUT_DIR"#)',
        'not_include!(concat!(env!("OUT_DIR"), "/x"))',
        'not_include!(env!("OUT_DIR"))',
        'include_str!(f(env!("OUT_DIR")))',
        'my_include_str!(concat!(env!("OUT_DIR"), "/x"))',
        'include_str!(mystd::concat!(env!("OUT_DIR"), "/x"))',
        '"OUT_DIR"',
        'directory!(of, "OUT_DIR")',
        'directory!("OUT_DIR")',
        'env!(concat!("OUT", "_DIR"))',
        'env!(core::concat!["OUT_D", stringify!(IR)])',
        'env!(concat!("", "OUT_DIR"))',
        'env!(concat!($prefix, "_DIR"))',
        'include!(concat!(env!("OUT_DIR"), "/a.rs")); option_env!(stringify!(OUT_DIR))',
    ],
)
def test_the_value_may_be_used(source: str) -> None:
    assert uses_value(source.encode(), NAME)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('Path::new(env!("OUT_DIR"))', False),
        ('std::path::PathBuf::from( concat!(env!("OUT_DIR"), "/x"))', False),
        ('Path::new(std::env!(r"OUT_DIR")).join("x")', False),
        ('MyPath::new(env!("OUT_DIR"))', True),
        ('Path::new(f(env!("OUT_DIR")))', True),
        ('Path::new(env!("OUT_DIR")); env!("OUT_DIR").len()', True),
    ],
)
def test_what_shows_where_texts_are_left_whole(source: str, wanted: bool) -> None:
    assert uses_value(source.encode(), NAME, stays_whole=True) == wanted
    assert uses_value(source.encode(), NAME)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('#[test]\nfn t() { let [a] = [env!("OUT_DIR")]; { a } }', False),
        ('#[test] #[should_panic] pub fn t() -> u8 { env!(concat!("OUT", "_DIR")) }', False),
        ('#[cfg(test)] mod tests { const D: &str = env!("OUT_DIR"); }', False),
        ('#[test] fn t() {} const D: &str = env!("OUT_DIR");', True),
        ('fn t() { env!("OUT_DIR") } #[test] fn u() { env!("OUT_DIR") }', True),
        ('#[cfg(not(test))] mod tests { const D: &str = env!("OUT_DIR"); }', True),
        ('parsed!(r#"env!("OUT_DIR")"#)', True),
    ],
)
def test_what_tests_use(source: str, wanted: bool) -> None:
    assert uses_value(source.encode(), NAME, is_test=False) == wanted
    assert uses_value(source.encode(), NAME)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('include!(concat!(env!("OUT_DIR"), "/x.rs"));', True),
        ('Path::new(env!("OUT_DIR"))', True),
        ('std::env::var("OUT_DIR")', False),
        ('mine!(var("OUT_DIR"))', False),
        ("nothing", False),
    ],
)
def test_what_says_why_a_variable_was_read(source: str, wanted: bool) -> None:
    assert explains(source.encode(), NAME) == wanted


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('macro_rules! out { () => { env!("OUT_DIR") } }', {"OUT_DIR"}),
        ('macro_rules! out { () => { option_env!(r"OUT_DIR") } }', {"OUT_DIR"}),
        ('quote! { ::core::env!("CARGO_MANIFEST_DIR") }', {"CARGO_MANIFEST_DIR"}),
        ('let name = "OUT_DIR"; quote! { option_env!( #name ) }', {"OUT_DIR"}),
        ('let name = "OUT_DIR"; quote! { include_str!(#name) }', set()),
        ('macro_rules! out { () => { include!(concat!(env!("OUT_DIR"), "/x")) } }', set()),
        ('macro_rules! a { () => {} } #[cfg(test)] mod t { env!("OUT_DIR") }', set()),
        ('macro_rules! a { () => {} } // env!("OUT_DIR")', set()),
        ('const D: &str = env!("OUT_DIR");', set()),
        ("macro_rules! of { ($x:expr) => { env!($x) } }", set()),
        (r'fn m() -> TokenStream { "env!(\"OUT_DIR\").len()".parse().unwrap() }', {"OUT_DIR"}),
        ('fn m() -> TokenStream { r#"env!("OUT_DIR")"#.parse().unwrap() }', {"OUT_DIR"}),
        ('fn m() -> TokenStream { include!(concat!(env!("OUT_DIR"), "/x")) }', set()),
        (r'const HELP: &str = "use env!(\"OUT_DIR\")";', set()),
    ],
)
def test_what_macros_ask_for_elsewhere(source: str, names: set[str]) -> None:
    assert values_handed_on(source.encode()) == names


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_bare_use_is_seen_wherever_it_stands(before: bytes, after: bytes) -> None:
    assume(b"/*" not in before)  # then it is a comment
    source = before + b'\nlet x = env!("OUT_DIR");' + after
    assert uses_value(source, NAME)
    assert mentions(source, NAME)
