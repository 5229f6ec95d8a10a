"""Telling a use of a path's value from reading a file through it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrapper.path_values import mentions, uses_value

NAME = "OUT_DIR"


@pytest.mark.parametrize(
    "source",
    [
        'include!(concat!(env!("OUT_DIR"), "/x.rs"));',
        'include_str!(concat!(env!("OUT_DIR"), "/x.txt"))',
        'include_bytes! [ concat! { env! ( "OUT_DIR" ), "/x" } ]',
        'include!(\n    concat!(\n        env!("OUT_DIR"),\n        "/x.rs"\n    )\n);',
        'core::include!(concat!(env!("OUT_DIR"), "/x.rs"));',
        'include!(env!("OUT_DIR"));',
        'include_str!( std::env!("OUT_DIR") )',
        'env!("OUT_DIR_2")',
        'env!("MY_OUT_DIR")',
        '"OUT_DIR"',
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
    ],
)
def test_the_value_may_be_used(source: str) -> None:
    assert uses_value(source.encode(), NAME)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_bare_use_is_seen_wherever_it_stands(before: bytes, after: bytes) -> None:
    source = before + b'\nlet x = env!("OUT_DIR");' + after
    assert uses_value(source, NAME)
    assert mentions(source, NAME)
