"""The runner script under a real /bin/sh."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wrapper.roots import ROOT
from wrapper.script import root_of, runner_script

SHELLS = [shell for shell in ("sh", "bash", "dash", "busybox") if shutil.which(shell)]
SHOW = """import os, sys
parts = [os.getcwdb(), *map(os.fsencode, sys.argv[1:]), b"",
         *(name + b"=" + value for name, value in os.environb.items())]
sys.stdout.buffer.write(b"\\0".join(parts))"""
WORDS = st.text(
    st.one_of(
        st.sampled_from("'\"\\$`!*?[]{}()<>|&;# \t\n\r~=%-@é\U0001f980"),
        st.characters(min_codepoint=1, exclude_categories=["Cs"]),
    ),
    max_size=30,
).map(lambda text: text.replace(ROOT, ""))


def run(
    root: Path,
    arguments: list[str],
    environment: dict[str, str],
    *,
    shell: str = "sh",
    directory: str = ROOT,
) -> tuple[str, str, list[str], dict[str, str]]:
    """Root as printed, directory, arguments and environment that the command saw."""
    command = [sys.executable, "-IS", "-c", SHOW, *arguments]
    script = runner_script(directory=directory, environment=environment, command=command)
    (root / "run.sh").write_bytes(script)
    words = [shell, "sh"] if shell == "busybox" else [shell]
    done = subprocess.run(
        [*words, "./run.sh"], cwd=root, env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed, rest = root_of(done.stdout)
    texts = [part.decode("utf-8", "surrogateescape") for part in rest.split(b"\0")]
    count = 1 + len(arguments)
    seen = dict(text.split("=", 1) for text in texts[count + 1 :])
    return printed, texts[0], texts[1:count], seen


@pytest.mark.parametrize("shell", SHELLS)
def test_root_stands_for_the_directory(tmp_path: Path, shell: str) -> None:
    root = tmp_path / "a 'b' $c \"d\" `e`\\"
    (root / "work space").mkdir(parents=True)
    arguments = [f"{ROOT}/a", f"-L=x={ROOT}/it's", f"{ROOT}{ROOT}", "plain"]
    environment = {"OUT_DIR": f"{ROOT}/target/out", "TWO": f"{ROOT}:{ROOT}"}
    printed, directory, seen, variables = run(
        root, arguments, environment, shell=shell, directory=f"{ROOT}/work space"
    )
    assert printed == str(root)
    assert directory == f"{root}/work space"
    assert seen == [argument.replace(ROOT, str(root)) for argument in arguments]
    for name, value in environment.items():
        assert variables[name] == value.replace(ROOT, str(root))


@pytest.mark.parametrize("shell", SHELLS)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(arguments=st.lists(WORDS, max_size=4), value=WORDS)
def test_any_text_survives(tmp_path: Path, shell: str, arguments: list[str], value: str) -> None:
    _, _, seen, variables = run(tmp_path, arguments, {"VALUE": value}, shell=shell)
    assert seen == arguments
    assert variables["VALUE"] == value


def test_text_that_is_not_utf_8_survives(tmp_path: Path) -> None:
    odd = b"a\xff'\xfe".decode("utf-8", "surrogateescape")
    _, _, seen, variables = run(tmp_path, [odd], {"VALUE": odd})
    assert seen == [odd]
    assert variables["VALUE"] == odd


@pytest.mark.parametrize(
    "name",
    ["R", "IFS", "CDPATH", "HOME", "_x", "OPTIND", "ENV", "PWD", "CARGO_BIN_EXE_main-binary"],
)
def test_variables_that_mean_something_to_the_shell(tmp_path: Path, name: str) -> None:
    """A build script may set any variable for its crate by `cargo::rustc-env`."""
    (tmp_path / "sub").mkdir()
    environment = {name: "/tmp x", "Z": f"{ROOT}/z"}
    _, directory, seen, variables = run(
        tmp_path, [f"{ROOT}/a b"], environment, directory=f"{ROOT}/sub"
    )
    assert directory == f"{tmp_path}/sub"
    assert seen == [f"{tmp_path}/a b"]
    assert variables[name] == "/tmp x"
    assert variables["Z"] == f"{tmp_path}/z"


def test_exit_status_and_stdout_are_the_commands(tmp_path: Path) -> None:
    script = runner_script(
        directory=ROOT, environment={}, command=["/bin/sh", "-c", "echo one; echo two; exit 3"]
    )
    done = subprocess.run(
        ["/bin/sh"], input=script, cwd=tmp_path, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 3
    assert root_of(done.stdout) == (str(tmp_path), b"one\ntwo\n")


def test_a_missing_directory_fails(tmp_path: Path) -> None:
    script = runner_script(directory=f"{ROOT}/no", environment={}, command=["/bin/echo", "ran"])
    done = subprocess.run(
        ["/bin/sh"], input=script, cwd=tmp_path, capture_output=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert b"ran" not in done.stdout


def test_the_script_does_not_depend_on_the_order_of_variables() -> None:
    def script(environment: dict[str, str]) -> bytes:
        return runner_script(directory=ROOT, environment=environment, command=["x"])

    assert script({"A": "1", "B": "2"}) == script({"B": "2", "A": "1"})
    assert script({"A": "1", "B": "2"}) != script({"A": "2", "B": "1"})
