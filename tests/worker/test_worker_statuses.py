"""How the worker tells apart what can go wrong with an action; a test plays the scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from remote_apis.client.rpc_errors import missing_blobs_in
from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import SHA256, Inputs, World, open_world, serving, worker_config


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server without a scheduler, and a worker in bubblewrap."""
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path, allow_absolute_symlinks=False)),
    ):
        yield world


def directory(**fields: object) -> bytes:
    return re_pb.Directory(**fields).SerializeToString(deterministic=True)  # type: ignore[arg-type]


async def outcome_of_root(world: World, content: bytes) -> re_pb.ExecuteResponse:
    """Run `true` in an input root of these bytes."""
    root = await world.put(content)
    digest = await world.put_action(re_pb.Command(arguments=["/bin/true"]), root)
    return await world.execute(digest)


@pytest.mark.row(89)
async def test_a_working_directory_that_is_not_an_input(world: World) -> None:
    response = await world.run("true", working_directory="missing", output_paths=["a"])
    assert response.status.code == code_pb2.INVALID_ARGUMENT
    assert "worker-1" in response.status.message
    assert "missing" in response.status.message


@pytest.mark.row(89)
async def test_a_working_directory_that_is_a_file(world: World) -> None:
    response = await world.run(
        "true", working_directory="file", inputs=Inputs(files={"file": b"x"})
    )
    assert response.status.code == code_pb2.INVALID_ARGUMENT


async def test_an_output_below_an_input_file(world: World) -> None:
    response = await world.run(
        "true", inputs=Inputs(files={"file": b"x"}), output_paths=["file/out"]
    )
    assert response.status.code == code_pb2.INVALID_ARGUMENT
    assert "'file'" in response.status.message


@pytest.mark.row(99)
async def test_an_unknown_node_property(world: World) -> None:
    response = await world.run("true", output_node_properties=["colour"])
    assert response.status.code == code_pb2.INVALID_ARGUMENT
    assert "colour" in response.status.message


@pytest.mark.row(90)
@pytest.mark.parametrize("path", ["/out", "out/", "../out", "a/../../out", "a//b", "a\0b"])
async def test_an_output_path_that_is_not_inside(world: World, path: str) -> None:
    response = await world.run("true", output_paths=[path])
    assert response.status.code == code_pb2.INVALID_ARGUMENT


async def test_a_command_without_arguments(world: World) -> None:
    response = await world.run_command(re_pb.Command())
    assert response.status.code == code_pb2.INVALID_ARGUMENT


@pytest.mark.row(74)
@pytest.mark.row(75)
async def test_missing_input_blobs_are_all_named(world: World) -> None:
    absent = {Digest.of(text, SHA256) for text in (b"one", b"two", b"x" * 2_000_000)}
    message = re_pb.Directory()
    for number, digest in enumerate(absent):
        message.files.add(name=f"f{number}", digest=digest.to_message())
    response = await outcome_of_root(world, message.SerializeToString(deterministic=True))
    assert response.status.code == code_pb2.FAILED_PRECONDITION
    assert set(missing_blobs_in(response.status.details)) == absent
    assert "worker-1" in response.status.message


@pytest.mark.row(75)
async def test_a_missing_directory_command_or_action(world: World) -> None:
    gone = Digest.of(b"gone", SHA256)
    message = re_pb.Directory()
    message.directories.add(name="d", digest=gone.to_message())
    response = await outcome_of_root(world, message.SerializeToString(deterministic=True))
    assert missing_blobs_in(response.status.details) == (gone,)
    root = await world.put_inputs(Inputs())
    action = re_pb.Action(
        command_digest=gone.to_message(), input_root_digest=root.to_message()
    ).SerializeToString(deterministic=True)
    response = await world.execute(await world.put(action))
    assert missing_blobs_in(response.status.details) == (gone,)
    response = await world.execute(gone)
    assert missing_blobs_in(response.status.details) == (gone,)


@pytest.mark.row(4)
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b", "n" * 256])
async def test_a_bad_name_in_a_directory(world: World, name: str) -> None:
    digest = (await world.put(b"x")).to_message()
    response = await outcome_of_root(
        world, directory(files=[re_pb.FileNode(name=name, digest=digest)])
    )
    assert response.status.code == code_pb2.INVALID_ARGUMENT, response.status


@pytest.mark.row(4)
async def test_one_name_twice_in_a_directory(world: World) -> None:
    digest = (await world.put(b"x")).to_message()
    response = await outcome_of_root(
        world,
        directory(
            files=[re_pb.FileNode(name="a", digest=digest)],
            symlinks=[re_pb.SymlinkNode(name="a", target="b")],
        ),
    )
    assert response.status.code == code_pb2.INVALID_ARGUMENT


async def test_what_is_no_directory_message(world: World) -> None:
    response = await outcome_of_root(world, b"\xff\xff not a message")
    assert response.status.code == code_pb2.INVALID_ARGUMENT


async def test_a_tree_that_spells_out_without_end(world: World) -> None:
    digest = await world.put(directory())
    for _ in range(40):
        node = digest.to_message()
        digest = await world.put(
            directory(
                directories=[
                    re_pb.DirectoryNode(name="a", digest=node),
                    re_pb.DirectoryNode(name="b", digest=node),
                ]
            )
        )
    response = await world.execute(
        await world.put_action(re_pb.Command(arguments=["/bin/true"]), digest)
    )
    assert response.status.code == code_pb2.INVALID_ARGUMENT


@pytest.mark.row(100)
async def test_absolute_symlinks_where_they_are_not_allowed(world: World) -> None:
    response = await world.run("true", inputs=Inputs(links={"a": "/etc/passwd"}))
    assert response.status.code == code_pb2.INVALID_ARGUMENT
    response = await world.run("echo said; ln -s /etc/passwd a", output_paths=["a"])
    assert response.status.code == code_pb2.FAILED_PRECONDITION
    assert await world.stdout(response) == "said\n"
    response = await world.run("mkdir d; ln -s /etc/passwd d/a", output_paths=["d"])
    assert response.status.code == code_pb2.FAILED_PRECONDITION


@pytest.mark.row(93)
async def test_an_output_of_another_kind_than_declared(world: World) -> None:
    response = await world.run("echo said; mkdir f", output_files=["f"])
    assert response.status.code == code_pb2.FAILED_PRECONDITION
    assert response.result.exit_code == 0
    assert await world.stdout(response) == "said\n"
    response = await world.run("echo x > d", output_directories=["d"])
    assert response.status.code == code_pb2.FAILED_PRECONDITION


async def test_an_unsupported_digest_function_of_the_scheduler(world: World) -> None:
    assert world.queue is not None
    lease = world.queue.give(Digest(SHA256, "0123", 4))
    lease.desired.digest_function = re_pb.DigestFunction.UNKNOWN
    await lease.done.wait()
    assert lease.response.status.code == code_pb2.INVALID_ARGUMENT
