"""Paths and Commands that came from others: understood or refused, never followed outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.errors import FailedPrecondition, InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from worker.command import OutputKind, parse_command
from worker.config import WorkerConfig, host_properties, platform_message
from worker.local import run_locally
from worker.paths import ActionRoot, join_inside

Variable = re_pb.Command.EnvironmentVariable
SEGMENTS = st.sampled_from(["a", "b", "..", ".", "", "ü", "x y", "\0"])
PATHS = st.lists(SEGMENTS, max_size=6).map("/".join)


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("", "", ""),
        ("", "a/b", "a/b"),
        ("w", "", "w"),
        ("w", "a", "w/a"),
        ("w/x", "../a", "w/a"),
        ("w", "..", ""),
        ("", "./a/./b", "a/b"),
    ],
)
def test_joining(base: str, path: str, expected: str) -> None:
    assert join_inside(base, path, "output") == expected


@pytest.mark.row(90)
@given(base=st.sampled_from(["", "w", "w/x"]), path=PATHS)
def test_a_joined_path_is_inside_or_refused(base: str, path: str) -> None:
    try:
        joined = join_inside(base, path, "output path")
    except InvalidRequest as error:
        assert "output path" in str(error)
        return
    assert not joined.startswith("/")
    assert not joined.endswith("/")
    assert not set(joined.split("/")) & {"..", ".", "\0"} or joined == ""
    assert os.path.normpath(f"{base}/{path}".lstrip("/") or ".") in (joined, ".")


def test_following_links_inside_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d/e").mkdir(parents=True)
    (root / "d/f").write_text("f")
    (tmp_path / "secret").write_text("secret")
    links = {
        "to-d": "d",
        "d/e/up": "../f",
        "inside": "/build/d",
        "outside": "/etc",
        "above": "../secret",
        "far": "d/../../secret",
        "loop": "loop",
        "dangling": "nowhere",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    action_root = ActionRoot(root, "/build")

    def resolve(path: str, *, follow_last: bool = True) -> Path | None:
        return action_root.resolve(path, follow_last=follow_last)

    assert resolve("") == root
    assert resolve("to-d/e/up") == root / "d/f"
    assert resolve("to-d/e/up", follow_last=False) == root / "d/e/up"
    assert resolve("inside/f") == root / "d/f"
    assert resolve("to-d/nothing") is None
    assert resolve("d/f/below") is None
    assert resolve("dangling") is None
    assert resolve("outside", follow_last=False) == root / "outside"
    for path in ("outside/passwd", "above", "far", "loop", "outside"):
        with pytest.raises(FailedPrecondition):
            resolve(path)


@given(target=st.lists(st.sampled_from(["a", "b", "..", "l", "m", ""]), max_size=8).map("/".join))
def test_no_link_leads_out(tmp_path_factory: pytest.TempPathFactory, target: str) -> None:
    root = tmp_path_factory.mktemp("links") / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "l").symlink_to(target or "x")
    (root / "a/m").symlink_to("../l")
    for path in ("l", "a/m", "l/a", "a/m/b"):
        try:
            found = ActionRoot(root, "/build").resolve(path, follow_last=True)
        except FailedPrecondition:
            continue
        assert found is None or found.is_relative_to(root)
        assert found is None or found.resolve().is_relative_to(root.resolve())


def test_a_command_in_full() -> None:
    spec = parse_command(
        re_pb.Command(
            arguments=["cc", "-o", "x"],
            environment_variables=[Variable(name="A", value="1"), Variable(name="B")],
            working_directory="w",
            output_files=["x", "../y"],
            output_directories=["", "d"],
            output_node_properties=["mtime"],
            output_directory_format=re_pb.Command.TREE_AND_DIRECTORY,
        )
    )
    assert spec.arguments == ("cc", "-o", "x")
    assert spec.environment == {"A": "1", "B": ""}
    assert [(output.inside, output.kind) for output in spec.outputs] == [
        ("w/x", OutputKind.FILE),
        ("y", OutputKind.FILE),
        ("w", OutputKind.DIRECTORY),
        ("w/d", OutputKind.DIRECTORY),
    ]
    assert spec.wants_tree
    assert spec.wants_directory


@pytest.mark.parametrize(
    "wrong",
    [
        {"arguments": []},
        {"arguments": [""]},
        {"arguments": ["a\0b"]},
        {"working_directory": "/w"},
        {"working_directory": "../w"},
        {"environment_variables": [Variable(name="")]},
        {"environment_variables": [Variable(name="A=B")]},
        {"environment_variables": [Variable(name="A", value="\0")]},
        {"environment_variables": [Variable(name="A"), Variable(name="A")]},
        {"output_node_properties": ["colour"]},
        {"output_paths": ["a/"]},
    ],
)
def test_wrong_commands(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"arguments": ["true"]} | wrong
    with pytest.raises(InvalidRequest):
        parse_command(re_pb.Command(**fields))  # type: ignore[arg-type]


@pytest.mark.row(7)
def test_platform_properties_are_sorted() -> None:
    message = platform_message(host_properties([("b", "2"), ("b", "1"), ("a", "z")]))
    pairs = [(each.name, each.value) for each in message.properties]
    assert pairs == sorted(pairs)
    assert ("OSFamily", "linux") in pairs


@pytest.mark.parametrize("change", [{"name": ""}, {"slots": 0}, {"sandbox": "docker"}])
def test_wrong_configurations(change: dict[str, object], tmp_path: Path) -> None:
    values: dict[str, object] = {"name": "w", "server": "", "directory": tmp_path}
    with pytest.raises(InvalidRequest):
        WorkerConfig(**(values | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
async def test_a_command_can_be_run_without_a_server(tmp_path: Path, sandbox: str) -> None:
    (tmp_path / "in").write_text("in")
    command = re_pb.Command(
        arguments=["/bin/sh", "-c", "cat in > out/made; echo said; exit 3"],
        output_paths=["out/made"],
    )
    result = await run_locally(command, tmp_path, sandbox=sandbox, timeout=20)
    assert (result.exit_code, result.stdout, result.timed_out) == (3, b"said\n", False)
    assert (tmp_path / "out/made").read_text() == "in"
