"""Images through a container engine: a program that does what it is told takes docker's place."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker import fake_engine
from tests.worker.image_maker import Image, shell_layer, write_layout
from tests.worker.test_images_in_worker import asking, run
from tests.worker.test_sandbox import processes_with
from tests.worker.world import Inputs, World, open_world, serving, worker_config
from worker.config import ResourceLimits
from worker.images.files import LayoutFiles
from worker.images.manifest import read_images
from worker.images.unpack import UnpackLimits, unpack
from worker.removal import remove_tree
from worker.sandbox.container import ContainerSandbox, ContainerSettings
from worker.sandbox.engine import Engine, open_engine
from worker.sandbox.interface import SandboxError, SandboxRequest

LOCAL, REMOTE = "docker.io/library/local:1", "quay.io/remote/tool:2"
Variable = re_pb.Command.EnvironmentVariable


class Fake:
    """The engine's state, and the directory of its program."""

    def __init__(self, base: Path, kind: str = "docker") -> None:
        self.base, self.kind = base, kind
        self.state = base / "state"
        self.programs = base / "programs"
        for path in (self.state, self.programs, self.state / "images", self.state / "registry"):
            path.mkdir()
        program = self.programs / kind
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} {fake_engine.__file__} {self.state} {kind} "$@"\n'
        )
        program.chmod(0o755)
        write_layout(base / "layout", {"": Image(layers=[shell_layer()])})
        files, root = LayoutFiles(base / "layout"), base / "root"
        root.mkdir()
        unpack(
            files, read_images(files)[0], root,
            limits=UnpackLimits(), should_stop=lambda: False,
        )  # fmt: skip
        # An engine makes what it mounts on.
        (root / "var" / "tmp").unlink()
        (root / "var" / "tmp").mkdir()
        image = json.dumps({"root": str(root), "env": ["PATH=/bin", "FROM_IMAGE=1", "BOTH=image"]})
        for place, name in (("images", LOCAL), ("registry", REMOTE)):
            (self.state / place / fake_engine.key(name)).write_text(image)

    def calls(self, command: str) -> list[list[str]]:
        lines = (self.state / "calls").read_text().splitlines()
        return [words for words in map(json.loads, lines) if words[0] == command]

    def containers(self) -> list[str]:
        return [path.name for path in (self.state / "containers").iterdir()]


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that other users get into: the engine's containers run as such."""
    path = Path(tempfile.mkdtemp(prefix="distbuild-engine-"))
    path.chmod(0o755)
    yield path
    remove_tree(path)


@pytest.fixture
def fake(request: pytest.FixtureRequest, base: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake(base, getattr(request, "param", "docker"))
    monkeypatch.setenv("PATH", f"{fake.programs}:{os.environ['PATH']}")
    return fake


@asynccontextmanager
async def working(fake: Fake, **changes: Any) -> AsyncIterator[World]:
    config = {"container_engine": fake.kind, **changes}
    async with (
        open_world() as world,
        serving(worker_config(world.url, fake.base / "w", **config)),
    ):
        yield world


@pytest.mark.parametrize("fake", ["docker", "podman"], indirect=True)
async def test_an_action_in_a_container(fake: Fake) -> None:
    inputs = Inputs(files={"input": b"text"}, directories=["d"])
    async with working(fake) as world:
        response = await run(
            world,
            "pwd; id -u; cat input /etc/who; env; echo x > made; echo t > /tmp/t; cat /var/tmp/t;"
            "touch /etc/no; echo err >&2; exit 7",
            image="docker://local:1", inputs=inputs, OSFamily="Linux",
        )  # fmt: skip
        assert response.status.code == 0, response.status
        assert response.result.exit_code == 7
        lines = (await world.stdout(response)).splitlines()
        expected_uid = 60_800 if os.geteuid() == 0 else os.geteuid()
        assert lines[:3] == ["/build", str(expected_uid), "textthe image"]
        assert {"FROM_IMAGE=1", "BOTH=image"} <= set(lines)
        assert lines[-1] == "t"
        said = await world.stderr(response)
        assert "Read-only file system" in said and said.endswith("err\n")
        assert await world.read(response.result.output_files[0].digest) == b"x\n"
        plain = await world.run("pwd; ls /usr/share > /dev/null && echo machine")
        assert await world.stdout(plain) == "/build\nmachine\n"
    assert fake.containers() == []
    assert not fake.calls("pull")


async def test_the_commands_own_environment_and_directory(fake: Fake) -> None:
    command = re_pb.Command(
        arguments=["./tool", "--read-only", "a b", "$X"],
        environment_variables=[
            Variable(name="BOTH", value="command"),
            Variable(name="N", value="a=b\nc"),
        ],
        working_directory="d",
    )
    tool = b'#!/bin/sh\npwd\necho "$BOTH" "$N"\nfor each; do echo "<$each>"; done\n'
    inputs = Inputs(executables={"d/tool": tool})
    async with working(fake) as world:
        response = await world.run_command(command, inputs=inputs, action=asking("local:1"))
        assert await world.stdout(response) == (
            "/build/d\ncommand a=b\nc\n<--read-only>\n<a b>\n<$X>\n"
        ), await world.stderr(response)


async def test_an_image_is_pulled_once(fake: Fake) -> None:
    async with working(fake, slots=3) as world:
        responses = await asyncio.gather(
            *(run(world, f"echo {n}", image=f"docker://{REMOTE}") for n in range(3))
        )
        assert [await world.stdout(each) for each in responses] == ["0\n", "1\n", "2\n"]
        # The engine's own words are nobody's stderr.
        assert {await world.stderr(each) for each in responses} == {""}
    assert fake.calls("pull") == [["pull", "--quiet", REMOTE]]


async def test_what_cannot_be_had_is_said(fake: Fake) -> None:
    async with working(fake) as world:
        response = await run(world, "true", image="docker://absent/image:x")
        assert response.status.code == code_pb2.FAILED_PRECONDITION
        for said in ("worker-1", "docker://absent/image:x", fake.kind, "manifest unknown", "pull"):
            assert said in response.status.message
        response = await run(world, "true", image="oci:/nowhere")
        assert response.status.code == code_pb2.INTERNAL  # another worker may have it
        assert "--images" in response.status.message
        (fake.state / "broken-create").touch()
        response = await run(world, "true", image="local:1")
        assert response.status.code == code_pb2.INTERNAL
        assert "create is broken" in response.status.message


async def test_whose_exit_code_it_is(fake: Fake) -> None:
    async with working(fake) as world:
        response = await run(world, "exit 125", image="local:1")
        assert (response.status.code, response.result.exit_code) == (0, 125)
        command = re_pb.Command(arguments=["absent"])
        response = await world.run_command(command, action=asking("local:1"))
        assert (response.status.code, response.result.exit_code) == (0, 127)
        (fake.state / "out-of-memory").touch()
        response = await run(world, "exit 137", image="local:1")
        assert response.result.exit_code == 137
        assert "memory" in response.message
        (fake.state / "broken-start").touch()
        response = await run(world, "true", image="local:1")
        assert response.status.code == code_pb2.INTERNAL
        assert "start is broken" in response.status.message
    assert fake.containers() == []


async def test_a_timeout_removes_the_container(fake: Fake) -> None:
    mark = f"mark-{os.getpid()}-{fake.base.name}"
    action = asking("local:1")
    action.timeout.FromMilliseconds(1500)
    script = f"echo begun; for i in 1 2; do (while :; do :; done) & done; wait # {mark}"
    async with working(fake) as world:
        command = re_pb.Command(arguments=["sh", "-c", script])
        response = await world.run_command(command, action=action)
        assert response.status.code == code_pb2.DEADLINE_EXCEEDED
        assert await world.stdout(response) == "begun\n"
    assert fake.containers() == []
    assert not processes_with(mark)


async def test_a_cancellation_removes_the_container(fake: Fake) -> None:
    mark = f"mark-{os.getpid()}-{fake.base.name}"
    script = f"(while :; do :; done) & wait # {mark}"
    async with working(fake) as world:
        task = asyncio.create_task(run(world, script, image="local:1"))
        await until(lambda: bool(processes_with(f"wait # {mark}")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    # The worker is gone as well, and took it along.
    assert fake.containers() == []
    assert not processes_with(mark)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.05)


async def test_what_a_killed_worker_left_is_removed(fake: Fake) -> None:
    engine = await open_engine(fake.kind, fake.base / "w")
    assert engine is not None
    sandbox = ContainerSandbox(engine, ContainerSettings(image=LOCAL, limits=ResourceLimits()))
    other = Engine(program=engine.program, kind=engine.kind, is_rootless=False, label="x=other")
    for maker, name in ((sandbox, "left"), (ContainerSandbox(other, sandbox._settings), "others")):
        arguments = maker.arguments(request_in(fake.base), name)
        assert (await engine.call(*arguments)).code == 0
    command = [engine.program, "start", "--attach", "left"]
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    await until(lambda: fake_engine.read(fake.state / "containers" / "left").get("pid"))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert sorted(fake.containers()) == ["left", "others"]
    async with working(fake):
        assert fake.containers() == ["others"]


def request_in(base: Path, *arguments: str, **more: Any) -> SandboxRequest:
    values: dict[str, Any] = {
        "slot": 3, "arguments": arguments or ("sh", "-c", "while :; do :; done"),
        "environment": {"PATH": "/bin"}, "working_directory": "", "root": base / "in,put",
        "temporary": base / "t", "stdout": base / "stdout", "stderr": base / "stderr",
        "limits": ResourceLimits(),
    }  # fmt: skip
    for name in ("in,put", "t"):
        (base / name).mkdir(exist_ok=True)
        (base / name).chmod(0o777)
    return SandboxRequest(**(values | more))


def engine_of(kind: str, *, is_rootless: bool = False) -> Engine:
    return Engine(program=f"/usr/bin/{kind}", kind=kind, is_rootless=is_rootless, label="l=x")


def options(arguments: list[str], name: str) -> list[str]:
    return [arguments[at + 1] for at, word in enumerate(arguments) if word == name]


def test_how_a_container_is_made(tmp_path: Path) -> None:
    limits = ResourceLimits(memory_bytes=1000, processes=5, cpus=1.5, cpu_seconds=7, file_bytes=900)
    settings = ContainerSettings(image="sha256:1", limits=limits, first_uid=60_800)
    sandbox = ContainerSandbox(engine_of("docker"), settings)
    request = request_in(tmp_path, "tool", "-x", working_directory="d/e")
    line = sandbox.arguments(request, "n")
    assert line[0] == "create"
    assert line[-2:] == ["sha256:1", "-x"]
    assert "--read-only" in line and "--privileged" not in line
    for name, values in {
        "--network": ["none"], "--user": ["60803:60803"], "--cap-drop": ["ALL"],
        "--memory": ["1000"], "--memory-swap": ["1000"], "--pids-limit": ["5"], "--cpus": ["1.5"],
        "--ulimit": ["cpu=7", "fsize=900"], "--workdir": ["/build/d/e"], "--entrypoint": ["tool"],
        "--security-opt": ["no-new-privileges", "label=disable"], "--label": ["l=x"],
        "--mount": [f'type=bind,"source={tmp_path}/in,put",target=/build',
                    f"type=bind,source={tmp_path}/t,target=/tmp",
                    f"type=bind,source={tmp_path}/t,target=/var/tmp"],
    }.items():  # fmt: skip
        assert options(line, name) == values
    online = sandbox.arguments(request_in(tmp_path, network=True), "n")
    assert options(online, "--network") == []


@pytest.mark.parametrize(
    ("kind", "as_root", "user"),
    [
        ("docker", False, ["0:0"]),
        ("podman", False, [f"{os.geteuid()}:{os.getegid()}"]),
        ("podman", True, ["0:0"]),
    ],
)
def test_users_where_the_engine_is_not_root(
    tmp_path: Path, kind: str, as_root: bool, user: list[str]
) -> None:
    settings = ContainerSettings(image="i", limits=ResourceLimits(), as_root=as_root, first_uid=9)
    sandbox = ContainerSandbox(engine_of(kind, is_rootless=True), settings)
    line = sandbox.arguments(request_in(tmp_path), "n")
    assert options(line, "--user") == user
    assert sandbox.owner(0) is None
    assert bool(options(line, "--userns")) is (kind == "podman" and not as_root)


async def test_root_is_not_given_away(fake: Fake) -> None:
    async with working(fake) as world:
        response = await run(world, "id -u", image="local:1", dockerRunAsRoot="true")
        assert response.status.code == code_pb2.INVALID_ARGUMENT
        assert "dockerRunAsRoot is refused" in response.status.message


async def test_network_and_limits(fake: Fake) -> None:
    count = "cat /proc/net/dev"
    async with working(fake, allows_network=True, limits=ResourceLimits(file_bytes=4096)) as world:
        off = await run(world, count, image="local:1")
        on = await run(world, count, image="local:1", dockerNetwork="standard")
        assert (await world.stdout(off)).count(":") == 1
        machine = Path("/proc/net/dev").read_text().count(":")
        assert (await world.stdout(on)).count(":") == machine
        big = await run(world, "cat /bin/sh > made", image="local:1")
        assert big.result.exit_code != 0


async def test_the_directory_serves_paths_beside_an_engine(fake: Fake) -> None:
    images = fake.base / "images"
    images.mkdir()
    shutil.copytree(fake.base / "layout", images / "own")
    async with working(fake, images=images) as world:
        response = await run(world, "cat /etc/who", image=f"oci:{images}/own")
        assert await world.stdout(response) == "the image\n"
    assert not fake.calls("create")


async def test_finding_an_engine(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(base / "nothing"))
    assert await open_engine("auto", base) is None
    with pytest.raises(InvalidRequest, match="docker is not on PATH"):
        await open_engine("docker", base)
    fake = Fake(base, "docker")
    monkeypatch.setenv("PATH", f"{fake.programs}:/usr/bin:/bin")
    engine = await open_engine("auto", base)
    assert engine is not None and (engine.kind, engine.is_rootless) == ("docker", False)
    (fake.state / "rootless").touch()
    engine = await open_engine("docker", base)
    assert engine is not None and engine.is_rootless
    (fake.state / "down").touch()
    assert await open_engine("auto", base) is None
    with pytest.raises(InvalidRequest, match=r"Cannot connect.*start the engine"):
        await open_engine("docker", base)


async def test_an_engine_that_hangs(base: Path) -> None:
    program = base / "hangs"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    engine = Engine(program=str(program), kind="docker", is_rootless=False, label="l=x")
    with pytest.raises(SandboxError, match=r"took more than"):
        await engine.call("info", seconds=0.2)
