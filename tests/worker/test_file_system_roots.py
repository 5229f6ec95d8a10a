"""Input roots that are whole file systems, as BuildStream's: the action sees them as `/`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import Inputs, World, open_world, serving, worker_config

Variable = re_pb.Command.EnvironmentVariable
PROGRAMS = ("sh", "cat", "ls", "id", "pwd", "chmod", "touch", "env", "mkdir")


def libraries_of(program: str) -> set[str]:
    """The shared libraries that a program needs, by path."""
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {word for line in lines.splitlines() for word in line.split() if word.startswith("/")}


def small_system() -> Inputs:
    """A root file system with a shell and a few programs of this machine."""
    executables = {}
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found is not None
        path = os.path.realpath(found)
        executables[f"bin/{name}"] = Path(path).read_bytes()
        for library in libraries_of(path):
            executables[library.lstrip("/")] = Path(library).read_bytes()
    files = {"work/here/source": b"source", "etc/motd": b"of the input root"}
    return Inputs(executables=executables, files=files, links={"work/abs": "/etc/motd"})


@pytest.fixture(params=[True, False] if os.geteuid() == 0 else [False])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A worker in bubblewrap; where the tests run as root, with and without giving that up."""
    changes = {} if request.param else {"first_action_uid": None}
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path, **changes)),
    ):
        yield world


async def run(world: World, script: str, **command: object) -> re_pb.ExecuteResponse:
    message = re_pb.Command(
        arguments=["sh", "-c", script],
        environment_variables=[Variable(name="PATH", value="/bin")],
        working_directory="work/here",
        **command,  # type: ignore[arg-type]
    )
    return await world.run_command(message, inputs=small_system())


async def test_the_input_root_is_all_there_is(world: World) -> None:
    response = await run(world, "pwd; id -u; cat /etc/motd; ls -d /usr/bin /build; echo $PATH")
    assert response.status.code == 0, response.status
    lines = (await world.stdout(response)).splitlines()
    assert lines == ["/work/here", "0", "of the input root/bin"]


async def test_the_working_directory_is_the_actions_own(world: World) -> None:
    script = (
        "touch source && echo more >> source && chmod 700 source && mkdir -p /new/d &&"
        "echo x > /new/d/f && cat source ../abs > out && touch /tmp/t /dev/shm/s"
    )
    for _ in range(2):
        response = await run(world, script, output_paths=["../../new", "out", "source"])
        assert response.status.code == 0, response.status
        assert response.result.exit_code == 0, await world.stderr(response)
        contents = {f.path: await world.read(f.digest) for f in response.result.output_files}
        assert contents == {
            "out": b"sourcemore\nof the input root",
            "source": b"sourcemore\n",
        }
        assert [d.path for d in response.result.output_directories] == ["../../new"]


async def test_a_program_that_is_not_there(world: World) -> None:
    response = await world.run_command(re_pb.Command(arguments=["absent"]), inputs=small_system())
    assert response.status.code == 0
    assert response.result.exit_code != 0
    assert "absent" in await world.stderr(response)


async def test_a_long_command(world: World) -> None:
    arguments = ["sh", "-c", "echo $#", "sh", *["it's an argument"] * 20_000]
    response = await world.run_command(re_pb.Command(arguments=arguments), inputs=small_system())
    assert await world.stdout(response) == "20000\n"
