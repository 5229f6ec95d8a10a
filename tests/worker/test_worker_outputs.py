"""What an ActionResult says about outputs (REAPI 2.12 ActionResult, Command)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import SHA256, Inputs, World, open_world, serving, worker_config

TREE_SCRIPT = """
mkdir -p d/b/same d/a/same d/c d/empty
echo shared > d/b/same/f; echo shared > d/a/same/f
echo x > d/c/x; chmod +x d/c/x; ln -s ../a/same/f d/c/link; ln -s nowhere d/dangling
mkfifo d/pipe
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server without a scheduler, and a worker in bubblewrap."""
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path)),
    ):
        yield world


async def tree_of(world: World, message: re_pb.Digest) -> re_pb.Tree:
    return re_pb.Tree.FromString(await world.read(message))


def digest_of(message: re_pb.Directory) -> re_pb.Digest:
    return Digest.of(message.SerializeToString(deterministic=True), SHA256).to_message()


@pytest.mark.row(92)
async def test_only_declared_outputs_that_exist(world: World) -> None:
    response = await world.run(
        "echo 1 > a; echo 2 > b; echo 3 > c", output_paths=["a", "c", "gone/deeper", "none"]
    )
    assert response.status.code == 0
    assert [file.path for file in response.result.output_files] == ["a", "c"]
    assert not response.result.output_directories
    assert not response.result.output_symlinks


@pytest.mark.row(66)
async def test_output_streams_are_never_inlined(world: World) -> None:
    response = await world.run("echo out; echo err >&2")
    assert not response.result.stdout_raw
    assert not response.result.stderr_raw
    assert await world.stdout(response) == "out\n"
    assert await world.stderr(response) == "err\n"
    response = await world.run("true")
    assert not response.result.HasField("stdout_digest")
    assert not response.result.HasField("stderr_digest")


@pytest.mark.row(90)
async def test_output_paths_take_precedence_over_the_old_fields(world: World) -> None:
    response = await world.run(
        "echo 1 > a; echo 2 > b",
        output_paths=["a"],
        output_files=["b"],
        output_directories=["a"],
    )
    assert response.status.code == 0
    assert [file.path for file in response.result.output_files] == ["a"]


@pytest.mark.row(91)
async def test_parents_are_there_and_outputs_are_not(world: World) -> None:
    response = await world.run(
        "test -d p/q && test ! -e p/q/r && test -d x && test ! -e x/y && test ! -e z",
        output_files=["p/q/r"],
        output_directories=["x/y", "z"],
    )
    assert response.result.exit_code == 0


@pytest.mark.row(95)
@pytest.mark.row(97)
async def test_a_directory_is_a_topologically_sorted_tree(world: World) -> None:
    response = await world.run(TREE_SCRIPT, output_paths=["d"])
    assert response.status.code == 0, response.status
    (output,) = response.result.output_directories
    assert output.path == "d"
    assert output.is_topologically_sorted
    assert not output.HasField("root_directory_digest")
    tree = await tree_of(world, output.tree_digest)
    assert [node.name for node in tree.root.directories] == ["a", "b", "c", "empty"]
    assert [(link.name, link.target) for link in tree.root.symlinks] == [("dangling", "nowhere")]
    assert not tree.root.files
    digests = [digest_of(child).hash for child in tree.children]
    # a and b are equal, and so are both directories named same: each is there once.
    assert len(digests) == len(set(digests)) == 4
    known = {digest_of(tree.root).hash: -1} | {hash_: n for n, hash_ in enumerate(digests)}
    for number, directory in enumerate([tree.root, *tree.children]):
        for node in directory.directories:
            assert known[node.digest.hash] > number - 1
    (c,) = [child for child in tree.children if any(f.name == "x" for f in child.files)]
    assert c.files[0].is_executable
    assert c.symlinks[0].target == "../a/same/f"
    assert (await world.read(output.tree_digest))[0] == 0x0A


@pytest.mark.row(96)
async def test_equal_directories_have_equal_digests(world: World) -> None:
    first = await world.run(TREE_SCRIPT, output_paths=["d"])
    second = await world.run(
        TREE_SCRIPT.replace("d/", "e/").replace("mkfifo e/pipe", "sleep 0.1; touch e"),
        output_directories=["e"],
    )
    (one,), (two,) = first.result.output_directories, second.result.output_directories
    assert one.tree_digest == two.tree_digest


@pytest.mark.row(95)
async def test_the_empty_path_is_the_working_directory(world: World) -> None:
    response = await world.run(
        "echo 1 > a",
        output_directories=[""],
        working_directory="w",
        inputs=Inputs(files={"w/in": b"in", "other": b"o"}),
    )
    (output,) = response.result.output_directories
    assert output.path == ""
    tree = await tree_of(world, output.tree_digest)
    assert [file.name for file in tree.root.files] == ["a", "in"]


@pytest.mark.row(98)
@pytest.mark.parametrize(
    ("form", "has_tree", "has_root"),
    [
        (re_pb.Command.TREE_ONLY, True, False),
        (re_pb.Command.DIRECTORY_ONLY, False, True),
        (re_pb.Command.TREE_AND_DIRECTORY, True, True),
        (17, True, False),
    ],
)
async def test_the_form_of_output_directories(
    world: World, form: int, has_tree: bool, has_root: bool
) -> None:
    response = await world.run(TREE_SCRIPT, output_paths=["d"], output_directory_format=form)
    assert response.status.code == 0, response.status
    (output,) = response.result.output_directories
    assert output.HasField("tree_digest") is has_tree
    assert output.HasField("root_directory_digest") is has_root
    if has_root:
        pending = [output.root_directory_digest]
        names = []
        while pending:
            directory = re_pb.Directory.FromString(await world.read(pending.pop()))
            names += [file.name for file in directory.files]
            pending += [node.digest for node in directory.directories]
        assert sorted(names) == ["f", "f", "x"]
    if has_tree and has_root:
        tree = await tree_of(world, output.tree_digest)
        assert digest_of(tree.root) == output.root_directory_digest


@pytest.mark.row(94)
async def test_symlinks_as_outputs(world: World) -> None:
    script = "echo f > f; mkdir d; ln -s f to-f; ln -s d to-d; ln -s gone to-gone"
    response = await world.run(script, output_paths=["to-d", "to-f", "to-gone"])
    result = response.result
    assert [(link.path, link.target) for link in result.output_symlinks] == [
        ("to-d", "d"),
        ("to-f", "f"),
        ("to-gone", "gone"),
    ]
    assert [link.path for link in result.output_file_symlinks] == ["to-f"]
    assert [link.path for link in result.output_directory_symlinks] == ["to-d"]
    assert not result.output_files
    assert not result.output_directories


@pytest.mark.row(94)
async def test_symlinks_in_the_old_fields(world: World) -> None:
    script = "ln -s gone file; ln -s gone directory"
    response = await world.run(script, output_files=["file"], output_directories=["directory"])
    result = response.result
    assert response.status.code == 0
    assert [link.path for link in result.output_file_symlinks] == ["file"]
    assert [link.path for link in result.output_directory_symlinks] == ["directory"]
    assert {link.path for link in result.output_symlinks} == {"file", "directory"}


@pytest.mark.row(100)
async def test_absolute_symlinks_where_they_are_allowed(world: World) -> None:
    response = await world.run("ln -s /usr/bin/env l", output_paths=["l"])
    assert response.status.code == 0
    assert response.result.output_symlinks[0].target == "/usr/bin/env"


async def test_node_properties_of_outputs(world: World) -> None:
    response = await world.run(
        "echo x > f; chmod 750 f; touch -d @1000000000 f; mkdir d; echo y > d/y; chmod 711 d;"
        "ln -s f l; touch -h -d @1100000000 l; touch -d @1200000000 d",
        output_paths=["d", "f", "l"],
        output_node_properties=["mtime", "unix_mode"],
    )
    result = response.result
    properties = result.output_files[0].node_properties
    assert (properties.unix_mode.value, properties.mtime.seconds) == (0o750, 1_000_000_000)
    tree = await tree_of(world, result.output_directories[0].tree_digest)
    assert tree.root.node_properties.unix_mode.value == 0o711
    assert tree.root.node_properties.mtime.seconds == 1_200_000_000
    assert tree.root.files[0].node_properties.HasField("mtime")
    assert result.output_symlinks[0].node_properties.mtime.seconds == 1_100_000_000
    response = await world.run("echo x > f", output_paths=["f"])
    assert not response.result.output_files[0].HasField("node_properties")


async def test_outputs_that_the_command_locked(world: World) -> None:
    response = await world.run(
        "echo x > f; chmod 0 f; mkdir d; echo y > d/y; chmod 0 d/y d", output_paths=["d", "f"]
    )
    assert response.status.code == 0, response.status
    assert await world.read(response.result.output_files[0].digest) == b"x\n"
    tree = await tree_of(world, response.result.output_directories[0].tree_digest)
    assert await world.read(tree.root.files[0].digest) == b"y\n"


async def test_names_and_outputs_of_every_kind(world: World) -> None:
    names = ["ü", "with space", "-dash", "new\nline", "'quote'", "z" * 255]
    response = await world.run(
        'for n in "$@"; do echo "$n" > "d/$n"; done',
        output_paths=["d/ü", "d"],
        inputs=Inputs(files={f"d/{name}": b"old" for name in names}),
    )
    assert response.status.code == 0, response.status
    tree = await tree_of(world, response.result.output_directories[0].tree_digest)
    found = [file.name for file in tree.root.files]
    assert found == sorted(names, key=str.encode)


async def test_a_name_that_is_not_utf8(world: World) -> None:
    response = await world.run("mkdir d; echo x > d/$(printf '\\377')", output_paths=["d"])
    assert response.status.code != 0
    assert "UTF-8" in response.status.message


async def test_deep_output_directories(world: World) -> None:
    script = "p=d; for i in $(seq 700); do p=$p/a; done; mkdir -p $p; echo x > $p/f"
    response = await world.run(script, output_paths=["d"])
    assert response.status.code == 0, response.status
    tree = await tree_of(world, response.result.output_directories[0].tree_digest)
    assert len(tree.children) == 700


async def test_directories_too_deep_for_any_path(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do mkdir abcdef && cd abcdef; i=$((i+1)); done; touch f"
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path)),
    ):
        response = await world.run(script)
        assert response.result.exit_code == 0, await world.stderr(response)
        response = await world.run(script, output_paths=["abcdef"])
        assert response.status.code == code_pb2.INVALID_ARGUMENT
    assert not (tmp_path / "slots").exists()
