"""What a compile in the sandbox on a developer's machine sees, and can link."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from wrapper.inputs.inputs import Inputs
from wrapper.preferred import PREFERRED
from wrapper.roots import Roots
from wrapper.rustc.arguments import parse
from wrapper.sandbox import find_sandbox, sandboxed


class Checkout:
    """A workspace with a target directory in which there was a build."""

    def __init__(self, directory: Path) -> None:
        self.workspace = directory / "w"
        self.profile = self.workspace / "target" / "debug"
        for name in ("deps", "incremental/app-1", "build/app-2/out", ".fingerprint", "examples"):
            (self.profile / name).mkdir(parents=True)
        for name in ("app", "build/app-2/out/made", "build/note", "examples/old", "deps/libx.rlib"):
            (self.profile / name).write_text(name)
        (self.profile / "incremental/app-1/x.o").write_text("object")
        self.inputs = Inputs(function=PREFERRED)
        self.inputs.shown[str(self.workspace)] = None
        self.inputs.shown[str(self.profile / "deps")] = None
        self.inputs.shown[str(self.profile / "build" / "app-2" / "out")] = None
        self.inputs.left_out.append(str(self.workspace / "target"))

    def sh(self, script: str, *, out_dir: str = "deps") -> subprocess.CompletedProcess[str]:
        """Run a script where rustc would run."""
        out = str(self.profile / out_dir)
        incremental = f"incremental={self.profile / 'incremental'}"
        argv = ("rustc", "--crate-name", "app", "--emit", "link", "--out-dir", out)
        invocation = parse([*argv, "-C", incremental, "src/main.rs"])
        roots = Roots(
            places=(), workspace=str(self.workspace), package=str(self.workspace), out_dir=out,
            target=str(self.workspace / "target"),
        )  # fmt: skip
        program = find_sandbox()
        assert program is not None
        command = sandboxed(
            program, ["/bin/sh", "-c", script], invocation=invocation, roots=roots,
            inputs=self.inputs, environment={},
        )  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("out_dir", ["deps", "examples"])
def test_object_files_are_linked_and_not_copied(checkout: Checkout, out_dir: str) -> None:
    done = checkout.sh(
        f"cd target/debug && ln incremental/app-1/x.o {out_dir}/x.o", out_dir=out_dir
    )
    assert done.returncode == 0, done.stderr
    assert os.path.samefile(
        checkout.profile / "incremental/app-1/x.o", checkout.profile / out_dir / "x.o"
    )


@pytest.mark.parametrize("is_simple", [True, False])
def test_what_is_no_input_is_hidden(checkout: Checkout, *, is_simple: bool) -> None:
    if not is_simple:
        (checkout.profile / "link").symlink_to("app")
    done = checkout.sh(
        "cd target/debug; cat deps/libx.rlib build/app-2/out/made; echo;"
        "cat app link build/note examples/old; ls -A .fingerprint"
    )
    assert done.stdout == "deps/libx.rlibbuild/app-2/out/made\n"
    done = checkout.sh("cd target/debug; echo x > build/app-2/out/more")
    assert "Read-only" in done.stderr


def test_a_target_directory_with_many_programs(checkout: Checkout) -> None:
    for number in range(200):
        (checkout.profile / f"app-{number}").write_text("a program")
    done = checkout.sh("cd target/debug; echo made > deps/app; cat app-7")
    assert done.stdout == ""
    assert (checkout.profile / "deps" / "app").read_text() == "made\n"
