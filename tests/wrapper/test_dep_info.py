"""Dep-info files and messages: what was read, and whose paths they show."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from wrapper.dep_info import environment_read, rewrite_dep_info, rewrite_messages

SOURCE = """
pub const A: &str = env!("SET");
pub const B: Option<&str> = option_env!("UNSET");
pub const C: Option<&str> = option_env!("EMPTY");
pub const D: &str = env!("ODD");
pub const E: &str = include_str!(concat!(env!("OUT_DIR"), "/text.txt"));
"""


@pytest.fixture
def compiled(tmp_path: Path) -> dict[str, str | None]:
    """What real rustc says of its environment; OUT_DIR has a space in it."""
    out = tmp_path / "out dir"
    out.mkdir()
    (out / "text.txt").write_text("text")
    source = tmp_path / "lib.rs"
    source.write_text(SOURCE)
    variables = {"SET": "1=2", "EMPTY": "", "ODD": "a\\n b\nc\r#\"'ü$", "OUT_DIR": str(out)}
    environment = {k: v for k, v in os.environ.items() if k != "UNSET"} | variables
    command = ["rustc", "--crate-type=lib", "--emit=dep-info", f"--out-dir={tmp_path}", str(source)]
    subprocess.run(command, check=True, env=environment, timeout=60)
    return environment_read((tmp_path / "lib.d").read_bytes()) | {"": str(tmp_path)}


def test_environment_of_a_real_compile(compiled: dict[str, str | None]) -> None:
    directory = compiled.pop("")
    assert compiled == {
        "SET": "1=2",
        "UNSET": None,
        "EMPTY": "",
        "ODD": "a\\n b\nc\r#\"'ü$",
        "OUT_DIR": f"{directory}/out dir",
    }


def test_no_environment() -> None:
    assert environment_read(b"lib.d: lib.rs\n\nlib.rs:\n") == {}


def test_paths_in_rules_are_escaped_for_make() -> None:
    dep_info = b"/root/outputs/x.d: /root/workspace/src/a.rs\n\n/root/workspace/src/a.rs:\n"
    pairs = [("/root/outputs", "/my ws/target"), ("/root/workspace", "/my ws")]
    assert rewrite_dep_info(dep_info, pairs) == (
        b"/my\\ ws/target/x.d: /my\\ ws/src/a.rs\n\n/my\\ ws/src/a.rs:\n"
    )


def test_paths_in_the_environment_are_not_escaped_for_make() -> None:
    """cargo refuses a backslash before anything but a backslash, n or r in an env-dep."""
    dep_info = b"x.d: x.rs\n\n# env-dep:OUT_DIR=/root/target/out\n# env-dep:NO\n"
    rewritten = rewrite_dep_info(dep_info, [("/root/target", "/my ws\\t")])
    assert environment_read(rewritten) == {"OUT_DIR": "/my ws\\t/out", "NO": None}


@pytest.mark.parametrize("rewrite", [rewrite_dep_info, rewrite_messages])
def test_what_was_replaced_is_not_replaced_again(rewrite: object) -> None:
    """CARGO_HOME is /usr/local/cargo in the official Rust images."""
    assert callable(rewrite)
    pairs = [
        ("/root/cargo/registry/src/index/a-1", "/usr/local/cargo/registry/src/index/a-1"),
        ("/cargo/registry/", "/usr/local/cargo/registry/"),
    ]
    data = b"/root/cargo/registry/src/index/a-1/lib.rs /cargo/registry/src/index/b-1/lib.rs"
    assert rewrite(data, pairs) == (
        b"/usr/local/cargo/registry/src/index/a-1/lib.rs"
        b" /usr/local/cargo/registry/src/index/b-1/lib.rs"
    )


def test_a_worker_whose_own_path_is_escaped() -> None:
    dep_info = b"/r t/outputs/x.d: /r\\ t/workspace/a.rs\n\n/r\\ t/workspace/a.rs:\n"
    pairs = [("/r t/outputs", "/w/target"), ("/r t/workspace", "/w")]
    assert rewrite_dep_info(dep_info, pairs) == b"/w/target/x.d: /w/a.rs\n\n/w/a.rs:\n"
    message = json.dumps({"artifact": '/r"t/outputs/x'}).encode()
    assert rewrite_messages(message, [('/r"t/outputs', "/w")]) == b'{"artifact": "/w/x"}'


def test_nothing_to_replace() -> None:
    assert rewrite_messages(b"text /a", []) == b"text /a"
    assert rewrite_dep_info(b"", [("/a", "/b")]) == b""


def test_messages_stay_json() -> None:
    line = json.dumps({"artifact": "/root/outputs/x.rmeta", "text": "a\nb"}).encode() + b"\n"
    odd = '/my "ws\\ü'
    rewritten = rewrite_messages(line * 2, [("/root/outputs", odd)])
    for part in rewritten.splitlines():
        assert json.loads(part) == {"artifact": f"{odd}/x.rmeta", "text": "a\nb"}


def test_paths_that_are_not_utf_8() -> None:
    real = os.fsdecode(b"/w\xff")
    assert rewrite_dep_info(b"/root/a.rs:\n", [("/root", real)]) == b"/w\xff/a.rs:\n"
    assert rewrite_dep_info(b"/w\xff/a.rs:\n", [(real, "/b")]) == b"/b/a.rs:\n"
