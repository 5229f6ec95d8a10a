"""Actions that ask for an image, from Execute to the result, in bubblewrap."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.image_maker import Image, file, layer, shell_layer, write_layout
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.test_file_system_roots import small_system
from tests.worker.test_sandbox import processes_with
from tests.worker.world import Inputs, World, open_world, serving, worker_config
from worker.config import ResourceLimits, host_properties

Variable = re_pb.Command.EnvironmentVariable
WAYS = [True, False] if os.geteuid() == 0 else [False]
TEST_IMAGE = Image(
    layers=[shell_layer(), layer(file("etc/who", b"its second layer\n"))],
    environment=["PATH=/bin", "FROM_IMAGE=1", "BOTH=image"],
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("images")
    write_layout(directory / "test", {"": TEST_IMAGE})
    write_layout(directory / "tool", {"": Image(layers=[shell_layer()], user="tool")})
    write_layout(directory / "damaged", {"": Image(layers=[layer(file("f", b"x" * 999))])})
    for blob in (directory / "damaged/blobs/sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(blob.read_bytes()[:-9])
    return directory


@pytest.fixture(params=WAYS, ids=lambda other: "as-another-user" if other else "as-this-user")
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, images: Path
) -> AsyncIterator[World]:
    changes = {} if request.param else {"first_action_uid": None}
    async with (
        open_world() as world,
        serving(worker_config(world.url, tmp_path / "w", images=images, **changes)),
    ):
        yield world


async def run(
    world: World, script: str, *, image: str = "test", inputs: Inputs | None = None, **more: str
) -> re_pb.ExecuteResponse:
    """Run a script by the image's own shell; `more` are further platform properties."""
    command = re_pb.Command(arguments=["sh", "-c", script], output_paths=["made"])
    return await world.run_command(command, inputs=inputs, action=asking(image, **more))


def asking(image: str, **more: str) -> re_pb.Action:
    action = re_pb.Action(do_not_cache=True)
    for name, value in sorted({"container-image": image, **more}.items()):
        action.platform.properties.add(name=name, value=value)
    return action


async def test_the_image_is_what_an_action_sees(world: World) -> None:
    inputs = Inputs(files={"input": b"in the input root"})
    script = (
        "cat /etc/who input; echo; pwd; ls /usr/bin/gcc /home; id -u; echo x > made;"
        "echo y > /tmp/t; echo z > /dev/shm/t; echo v > /var/tmp/t; cat /var/tmp/t /etc/hosts"
    )
    response = await run(world, script, inputs=inputs, OSFamily="Linux", dockerNetwork="off")
    assert response.status.code == 0, response.status
    lines = (await world.stdout(response)).splitlines()
    assert lines[:5] == ["its second layer", "in the input root", "/build", "1000", "v"]
    assert "127.0.0.1 localhost" in lines
    assert await world.read(response.result.output_files[0].digest) == b"x\n"
    # It is used again.
    again = await run(world, "cat /etc/who /tmp/t")
    assert await world.stdout(again) == "its second layer\n"
    assert again.result.exit_code != 0


async def test_the_environment_is_the_images_under_the_commands(world: World) -> None:
    command = re_pb.Command(
        arguments=["env"],
        environment_variables=[
            Variable(name="BOTH", value="command"),
            Variable(name="C", value=""),
        ],
    )
    response = await world.run_command(command, action=asking("docker://test:latest"))
    lines = (await world.stdout(response)).splitlines()
    assert sorted(line for line in lines if not line.startswith("PWD=")) == [
        "BOTH=command", "C=", "FROM_IMAGE=1", "PATH=/bin",
    ]  # fmt: skip


async def test_nothing_of_the_image_or_the_machine_can_be_altered(
    world: World, images: Path
) -> None:
    for script in (
        "touch /etc/who", "touch /made", "mkdir /etc/d", "chmod 777 /bin/sh", "touch /build/../x",
        f"ls {images}", "cat /etc/shadow", "ls /run/image", "touch /proc/sys/kernel/hostname",
        "exec 3<>/dev/mem", "ls -d /usr/share", f"kill -0 {os.getpid()}",
    ):  # fmt: skip
        response = await run(world, script)
        assert response.status.code == 0, response.status
        assert response.result.exit_code != 0, (script, await world.stdout(response))


async def test_an_action_is_an_ordinary_user(world: World) -> None:
    script = "id -u; id -g; cat /proc/self/status; ls /proc/self/fd"
    for image, more, user in (
        ("test", {}, "1000"),
        ("tool", {}, "1234"),
        ("test", {"dockerRunAsRoot": "true"}, "0"),
    ):
        inputs = Inputs(files={"input": b"as it was"})
        response = await run(world, f"{script}; echo x > input", image=image, inputs=inputs, **more)
        lines = (await world.stdout(response)).splitlines()
        assert lines[0] == user
        assert "CapEff:\t0000000000000000" in lines
        assert "NoNewPrivs:\t1" in lines
        # stdin, stdout, stderr, and the directory that ls reads
        assert set(lines[-4:]) == {"0", "1", "2", "3"}


async def test_programs_are_looked_up_in_the_image(world: World) -> None:
    for program in ("absent", "/usr/bin/python3"):
        command = re_pb.Command(arguments=[program])
        response = await world.run_command(command, action=asking("test"))
        assert response.status.code == 0, response.status
        assert response.result.exit_code == 127
        assert program in await world.stderr(response)
    own = Inputs(executables={"d/tool": b"#!/bin/sh\necho tool\n"}, directories=["e"])
    command = re_pb.Command(arguments=["../d/tool"], working_directory="e")
    response = await world.run_command(command, inputs=own, action=asking("test"))
    assert await world.stdout(response) == "tool\n"


async def test_a_long_command(world: World) -> None:
    arguments = ["sh", "-c", "echo $#", "sh", *["it's an argument"] * 20_000]
    response = await world.run_command(re_pb.Command(arguments=arguments), action=asking("test"))
    assert await world.stdout(response) == "20000\n"


async def test_an_input_root_with_a_shell_stays_the_input_root(world: World) -> None:
    response = await run(world, "pwd; cat /etc/who etc/motd", inputs=small_system())
    assert (await world.stdout(response)).startswith("/build\nits second layer\nof the input root")


async def test_a_timeout_ends_the_whole_tree(world: World, tmp_path: Path) -> None:
    action = asking("test")
    action.timeout.FromMilliseconds(800)
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    script = f"for i in 1 2 3; do ( (while :; do :; done) & wait) & done; wait # {mark}"
    command = re_pb.Command(arguments=["sh", "-c", script])
    response = await world.run_command(command, action=action)
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED
    assert not processes_with(mark)


async def test_what_cannot_be_had_is_said(world: World, images: Path) -> None:
    response = await run(world, "true", image="damaged")
    assert response.status.code == code_pb2.INTERNAL
    for said in ("worker-1", "'damaged'", f"{images}/damaged", "layer blobs/sha256/", "put it"):
        assert said in response.status.message
    response = await run(world, "true", image="docker://nobody/has:it")
    assert response.status.code == code_pb2.FAILED_PRECONDITION
    assert "docker://nobody/has:it" in response.status.message
    assert "docker.io/library/test:latest" in response.status.message
    response = await run(world, "true", dockerPrivileged="true")
    assert response.status.code == code_pb2.INVALID_ARGUMENT
    assert "dockerPrivileged is refused" in response.status.message


async def test_there_is_no_network_unless_both_want_it(tmp_path: Path, images: Path) -> None:
    count = "cat /proc/net/dev; exit 3"
    with socket.create_server(("127.0.0.1", 0)):
        for allows, image in ((False, "test"), (True, "test"), (True, "none")):
            async with open_world() as world, serving(
                worker_config(world.url, tmp_path / f"{allows}{image}", images=images,
                              allows_network=allows)
            ):  # fmt: skip
                off = await run(world, count, image=image, dockerNetwork="off")
                on = await run(world, count, image=image, dockerNetwork="standard")
                devices = [(await world.stdout(each)).count(":") for each in (off, on)]
                machine = Path("/proc/net/dev").read_text().count(":")
                assert devices == [1, machine if allows else 1]
                assert ("gives no action the network" in on.message) is not allows
                assert off.message == ""


async def test_limits_hold(tmp_path: Path, images: Path) -> None:
    limits = ResourceLimits(file_bytes=64 * 1024, cpu_seconds=1)
    config = {"images": images, "limits": limits}
    async with open_world() as world, serving(worker_config(world.url, tmp_path, **config)):
        text = "x" * 50_000
        assert (await run(world, f"echo {text} > a; cat a a > made")).result.exit_code != 0
        assert (await run(world, "while :; do :; done")).result.exit_code > 128


async def test_an_image_without_an_image(tmp_path: Path) -> None:
    """A scheduler that does not look, and a worker that knows nothing of images."""
    async with open_world(ScriptedQueue()) as world, serving(worker_config(world.url, tmp_path)):
        response = await run(world, "true", image="docker://a/b:c")
    assert response.status.code == code_pb2.FAILED_PRECONDITION
    assert "docker://a/b:c" in response.status.message
    assert "--images" in response.status.message


async def test_the_image_that_a_worker_runs_in(tmp_path: Path) -> None:
    """As Buildbarn's workers: the operator says which it is, and it is what the machine has."""
    properties = host_properties([("container-image", "docker://debian:12")])
    config = worker_config("", tmp_path).properties
    assert config != properties
    async with open_world() as world, serving(
        worker_config(world.url, tmp_path, properties=properties)
    ):  # fmt: skip
        command = re_pb.Command(arguments=["/bin/sh", "-c", "echo here"])
        for image in ("docker://debian:12", "docker.io/library/debian:12"):
            response = await world.run_command(command, action=asking(image))
            assert await world.stdout(response) == "here\n"


async def test_what_is_offered(tmp_path: Path, images: Path) -> None:
    queue = ScriptedQueue()
    async with open_world(queue) as world, serving(
        worker_config(world.url, tmp_path, images=images)
    ):  # fmt: skip
        request = await queue.until("idle")
        offered = [(each.name, each.value) for each in request.platform.properties]
    assert offered == sorted(offered)
    values = {value for name, value in offered if name == "container-image"}
    assert {"docker.io/library/test:latest", TEST_IMAGE.id, f"path:{images}/test"} <= values
    assert "*" not in values


async def test_an_image_that_vanished(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    write_layout(images / "brief", {"": TEST_IMAGE})
    async with open_world() as world, serving(
        worker_config(world.url, tmp_path / "w", images=images)
    ):  # fmt: skip
        (images / "brief").rename(tmp_path / "elsewhere")
        response = await run(world, "true", image="brief")
        assert response.status.code == code_pb2.INTERNAL
        assert "no such image" in response.status.message


async def test_actions_that_ask_at_once(tmp_path: Path, images: Path) -> None:
    config = {"images": images, "slots": 3}
    async with open_world() as world, serving(worker_config(world.url, tmp_path, **config)):
        responses = await asyncio.gather(*(run(world, f"echo {n}") for n in range(6)))
        said = [await world.stdout(each) for each in responses]
    assert said == [f"{n}\n" for n in range(6)]
    assert len(list((tmp_path / "images").iterdir())) == 1
