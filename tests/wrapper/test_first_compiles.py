"""Which compiles keep no state."""

from __future__ import annotations

from pathlib import Path

import pytest

from wrapper.first_compiles import _has_twin
from wrapper.result_checks import Unit
from wrapper.roots import find_roots
from wrapper.rustc.arguments import parse


@pytest.mark.parametrize(
    ("out_dir", "beside", "wanted"),
    [
        ("build/tool/0123456789abcdef/out", "build/tool/0123456789abcdef/artifact/bin", True),
        ("build/tool/0123456789abcdef/out", "build/tool/fedcba9876543210/artifact/bin", False),
        ("deps", "artifact/tool-0123456789abcdef/bin", True),
        ("deps", "artifact/tool-fedcba9876543210/bin", False),
    ],
)
def test_an_artifact_dependencys_twin(
    tmp_path: Path, out_dir: str, beside: str, wanted: bool
) -> None:
    profile = tmp_path / "target" / "debug"
    (profile / beside).mkdir(parents=True)
    environment = {"CARGO_MANIFEST_DIR": f"{tmp_path}/tool", "CARGO_PKG_NAME": "tool"}
    words = (
        "--crate-name=tool",
        "tool/main.rs",
        "--emit=link",
        "-Cextra-filename=-0123456789abcdef",
    )
    invocation = parse(("/t/bin/rustc", *words, f"--out-dir={profile}/{out_dir}"))
    roots = find_roots(
        cwd=str(tmp_path), source=invocation.source, out_dir=invocation.out_dir, triple=None,
        environment=environment, sources=None,
    )  # fmt: skip
    unit = Unit(invocation=invocation, roots=roots, environment=environment)
    assert _has_twin(unit) == wanted
