"""Actions through a real server, a real worker and the real sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.world import SHA256, Inputs, World, open_world, serving, worker_config

Variable = re_pb.Command.EnvironmentVariable


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server with a worker in bubblewrap."""
    async with open_world() as world, serving(worker_config(world.url, tmp_path)):
        yield world


@pytest.mark.row(91)
async def test_an_action_runs_and_its_outputs_arrive(world: World) -> None:
    response = await world.run(
        "cat in/a.txt > out/deep/b.txt; echo said; echo warned > /dev/stderr; pwd",
        inputs=Inputs(files={"in/a.txt": b"content"}),
        output_paths=["out/deep/b.txt"],
    )
    assert response.status.code == 0, response.status
    assert response.result.exit_code == 0
    assert await world.stderr(response) == "warned\n"
    assert await world.stdout(response) == "said\n/build\n"
    (file,) = response.result.output_files
    assert file.path == "out/deep/b.txt"
    assert not file.is_executable
    assert await world.read(file.digest) == b"content"


async def test_the_metadata_tells_who_and_when(world: World) -> None:
    response = await world.run("sleep 0.2")
    metadata = response.result.execution_metadata
    assert metadata.worker == "worker-1"
    times = [
        metadata.queued_timestamp,
        metadata.worker_start_timestamp,
        metadata.input_fetch_start_timestamp,
        metadata.input_fetch_completed_timestamp,
        metadata.execution_start_timestamp,
        metadata.execution_completed_timestamp,
        metadata.output_upload_start_timestamp,
        metadata.output_upload_completed_timestamp,
        metadata.worker_completed_timestamp,
    ]
    stamps = [time.ToNanoseconds() for time in times]
    assert all(stamps)
    assert stamps == sorted(stamps)
    assert 0.2 <= metadata.virtual_execution_duration.ToMilliseconds() / 1000 < 20


async def test_a_failing_command_is_a_result_and_not_an_error(world: World) -> None:
    response = await world.run("echo partial > out; exit 7", output_paths=["out", "never"])
    assert response.status.code == 0
    assert response.result.exit_code == 7
    assert [file.path for file in response.result.output_files] == ["out"]


async def test_a_signal_shows_as_128_and_its_number(world: World) -> None:
    response = await world.run("kill -SEGV $$")
    assert response.status.code == 0
    assert response.result.exit_code == 128 + 11


@pytest.mark.row(85)
@pytest.mark.row(102)
async def test_a_timeout_kills_the_command_and_keeps_what_it_said(world: World) -> None:
    action = re_pb.Action()
    action.timeout.FromMilliseconds(500)
    response = await world.run(
        "echo begun; echo made > out; sleep 60 & sleep 60",
        action=action,
        output_paths=["out"],
    )
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED
    assert "worker-1" in response.status.message
    assert await world.stdout(response) == "begun\n"
    assert [file.path for file in response.result.output_files] == ["out"]
    duration = response.result.execution_metadata.virtual_execution_duration
    assert 500 <= duration.ToMilliseconds() < 20_000


@pytest.mark.row(88)
@pytest.mark.parametrize(
    ("program", "path"),
    [
        ("/build/tools/tool", "/usr/bin:/bin"),
        ("../tools/tool", "/usr/bin:/bin"),
        ("./local", "/usr/bin:/bin"),
        ("tool", "/nowhere:/build/tools"),
        ("tool", "../tools"),
    ],
)
async def test_the_program_is_found_as_the_command_says(
    world: World, program: str, path: str
) -> None:
    script = b'#!/bin/sh\necho "$0 ran: $1"\n'
    response = await world.run_command(
        re_pb.Command(
            arguments=[program, "argument"],
            working_directory="work",
            environment_variables=[Variable(name="PATH", value=path)],
        ),
        inputs=Inputs(executables={"tools/tool": script, "work/local": script}),
    )
    assert response.result.exit_code == 0, await world.stderr(response)
    assert (await world.stdout(response)).endswith("ran: argument\n")


@pytest.mark.row(88)
async def test_a_bare_name_is_not_looked_for_in_the_working_directory(world: World) -> None:
    response = await world.run_command(
        re_pb.Command(
            arguments=["tool"],
            environment_variables=[Variable(name="PATH", value="/usr/bin:/bin")],
        ),
        inputs=Inputs(executables={"tool": b"#!/bin/sh\n"}),
    )
    assert response.status.code == 0
    assert response.result.exit_code == 127
    assert "tool" in await world.stderr(response)


async def test_a_program_name_may_hold_an_equals_sign(world: World) -> None:
    response = await world.run_command(
        re_pb.Command(arguments=["./a=b", "x y"]),
        inputs=Inputs(executables={"a=b": b'#!/bin/sh\necho "$1"\n'}),
    )
    assert await world.stdout(response) == "x y\n"


async def test_the_environment_is_exactly_that_of_the_command(world: World) -> None:
    response = await world.run_command(
        re_pb.Command(
            arguments=["/usr/bin/env"],
            environment_variables=[
                Variable(name="A", value="1"),
                Variable(name="B", value="two words\nand a line"),
            ],
        )
    )
    assert await world.stdout(response) == "A=1\nB=two words\nand a line\n"


@pytest.mark.row(89)
async def test_output_paths_are_relative_to_the_working_directory(world: World) -> None:
    response = await world.run(
        "pwd; echo 1 > out/a; echo 2 > ../b",
        working_directory="sub/dir",
        inputs=Inputs(directories=["sub/dir"]),
        output_paths=["../b", "out/a"],
    )
    assert await world.stdout(response) == "/build/sub/dir\n"
    contents = {f.path: await world.read(f.digest) for f in response.result.output_files}
    assert contents == {"../b": b"2\n", "out/a": b"1\n"}


@pytest.mark.row(103)
@pytest.mark.parametrize("function", [DigestFunction.BLAKE3, DigestFunction.SHA1])
async def test_all_digests_are_of_the_actions_function(
    world: World, function: DigestFunction
) -> None:
    response = await world.run(
        "echo said; echo x > file; mkdir -p dir/sub; echo y > dir/sub/y",
        function=function,
        output_paths=["dir", "file"],
    )
    result = response.result
    assert response.status.code == 0, response.status
    assert await world.read(result.stdout_digest, function) == b"said\n"
    assert await world.read(result.output_files[0].digest, function) == b"x\n"
    tree = re_pb.Tree.FromString(
        await world.read(result.output_directories[0].tree_digest, function)
    )
    (child,) = tree.children
    assert (
        tree.root.directories[0].digest
        == Digest.of(child.SerializeToString(deterministic=True), function).to_message()
    )
    assert await world.read(child.files[0].digest, function) == b"y\n"


async def test_many_actions_run_on_several_slots(tmp_path: Path) -> None:
    async with (
        open_world() as world,
        serving(worker_config(world.url, tmp_path, slots=3)) as worker,
    ):
        shared = Inputs(files={f"in/{number}": b"%d" % number for number in range(20)})
        responses = await asyncio.gather(
            *(world.run(f"cat in/* | wc -c; echo {n}", inputs=shared) for n in range(12))
        )
        for number, response in enumerate(responses):
            assert response.status.code == 0, response.status
            assert (await world.stdout(response)).split() == ["30", str(number)]
        assert sum(slot.state.finished for slot in worker.slots) == 12


async def test_an_empty_input_file_and_a_shared_blob(world: World) -> None:
    response = await world.run(
        "test -f empty && test ! -s empty && test ! -x plain && ./runs && cat a b plain",
        inputs=Inputs(
            files={"empty": b"", "a": b"A", "b": b"A", "plain": b"#!/bin/sh\necho ran\n"},
            executables={"runs": b"#!/bin/sh\necho ran\n"},
        ),
    )
    assert response.result.exit_code == 0, await world.stderr(response)
    assert await world.stdout(response) == "ran\nAA#!/bin/sh\necho ran\n"


async def test_large_blobs_go_both_ways(world: World) -> None:
    content = bytes(range(256)) * 4096 * 5
    response = await world.run(
        "cat big big > twice", inputs=Inputs(files={"big": content}), output_paths=["twice"]
    )
    (file,) = response.result.output_files
    assert file.digest == Digest.of(content * 2, SHA256).to_message()
    assert await world.read(file.digest) == content * 2
