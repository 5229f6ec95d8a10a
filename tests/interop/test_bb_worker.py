"""Buildbarn's worker and runner serve our scheduler.

Runs where BB_WORKER and BB_RUNNER name the programs; no package registry has them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2
from leftovers import nothing_left, processes
from running import RunningServer, running_server, running_worker

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from tests.worker.world import Client, Inputs, client_of

from .buildbarn import count_lines, daemon, runs
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

POOL = re_pb.Platform(properties=[re_pb.Platform.Property(name="Pool", value="buildbarn")])
ANYWHERE = re_pb.Platform(properties=[re_pb.Platform.Property(name="OSFamily", value="linux")])


@pytest.fixture
def programs(tools: Tools) -> list[Path]:
    return tools.buildbarn("BB_WORKER", "BB_RUNNER")


@contextmanager
def barn(programs: list[Path], server: RunningServer, state: Path) -> Iterator[None]:
    """A Buildbarn worker with two slots."""
    for name in ("build", "cache"):
        (state / name).mkdir()
    worker, runner = programs
    with (
        daemon(runner, "bb_runner", state, socket="runner"),
        daemon(worker, "bb_worker", state, server=server.target),
    ):
        yield


@asynccontextmanager
async def site(programs: list[Path], tmp_path: Path, state: Path) -> AsyncIterator[Client]:
    """A server whose only worker is Buildbarn's, and a client."""
    with (
        running_server(tmp_path / "data", "--workers", "0") as server,
        barn(programs, server, state),
    ):
        async with client_of(server.url) as client:
            yield client
    assert not processes(state)


async def begin(client: Client, script: str, platform: re_pb.Platform = POOL) -> str:
    """Have a script run; the operation's name, once it is known."""
    command = re_pb.Command(arguments=["/bin/sh", "-c", script])
    root = await client.put_inputs(Inputs())
    digest = await client.put_action(command, root, action=re_pb.Action(platform=platform))
    request = re_pb.ExecuteRequest(action_digest=digest.to_message())
    name: str = (await anext(aiter(re_grpc.ExecutionStub(client.channel).Execute(request)))).name
    return name


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.1)


async def test_outputs_and_streams(programs: list[Path], tmp_path: Path, short_path: Path) -> None:
    script = """
    cat in/deep > out; chmod +x out; mkdir -p d/e; echo leaf > d/e/leaf; ln -s e/leaf d/link
    echo said; echo warned >&2; exit 3
    """
    async with site(programs, tmp_path, short_path) as client:
        response = await client.run(
            script,
            inputs=Inputs(files={"in/deep": b"content"}),
            action=re_pb.Action(platform=POOL),
            output_paths=["out", "d"],
        )
        result = response.result
        assert (response.status.code, result.exit_code) == (code_pb2.OK, 3)
        assert "barn" in result.execution_metadata.worker
        assert await client.stdout(response) == "said\n"
        assert await client.stderr(response) == "warned\n"
        (file,) = result.output_files
        assert (file.path, file.is_executable) == ("out", True)
        assert await client.read(file.digest) == b"content"
        (directory,) = result.output_directories
        tree = re_pb.Tree.FromString(await client.read(directory.tree_digest))
        assert [link.target for link in tree.root.symlinks] == ["e/leaf"]
        assert [file.name for file in tree.children[0].files] == ["leaf"]


async def test_what_ends_otherwise(programs: list[Path], tmp_path: Path, short_path: Path) -> None:
    async with site(programs, tmp_path, short_path) as client:
        patient = re_pb.Action(platform=POOL, timeout={"seconds": 1})
        response = await client.run("exec sleep 60", action=patient)
        assert response.status.code == code_pb2.DEADLINE_EXCEEDED, response
        first = await client.run("date +%N > out", action=patient, output_paths=["out"])
        again = await client.run("date +%N > out", action=patient, output_paths=["out"])
        assert (first.cached_result, again.cached_result) == (False, True)
        assert again.result.output_files == first.result.output_files
        mark = f"sleep 300.{uuid.uuid4().int % 10**9:09}"
        name = await begin(client, f"exec {mark}")  # The runner kills the command's own process.
        await until(lambda: runs(mark))
        operations = operations_pb2_grpc.OperationsStub(client.channel)
        await operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))
        response = await client.execution.wait(name, timeout=30)
        assert response.status.code == code_pb2.CANCELLED
        await nothing_left(lambda: processes(mark), seconds=40)


async def test_a_killed_server_gets_the_result_of_what_ran_on(
    programs: list[Path], tmp_path: Path, short_path: Path
) -> None:
    ran = tmp_path / "ran"
    with (
        running_server(tmp_path / "data", "--workers", "0") as server,
        barn(programs, server, short_path),
    ):
        async with client_of(server.url) as client:
            name = await begin(client, f"echo ran >> {ran}; sleep 8; echo done")
            await until(ran.exists)
            await asyncio.sleep(2.5)  # The lease is on disk: docs/scheduler.md, durability.
        server.process.kill()
        server.process.wait(30)
        with running_server(tmp_path / "data", "--workers", "0", listen=server.target) as again:
            async with client_of(again.url) as client:
                response = await client.execution.wait(name, timeout=60)
                assert response.status.code == code_pb2.OK, response.status
                assert await client.stdout(response) == "done\n"
    assert count_lines(ran) == 1


async def test_what_a_killed_worker_ran_goes_to_ours(
    programs: list[Path], tmp_path: Path, short_path: Path
) -> None:
    worker, runner = programs
    for name in ("build", "cache"):
        (short_path / name).mkdir()
    mark = f"sleep 3.{uuid.uuid4().int % 10**9:09}"
    with (
        running_server(tmp_path / "data", "--workers", "0") as server,
        daemon(runner, "bb_runner", short_path, socket="runner"),
        daemon(worker, "bb_worker", short_path, server=server.target) as killed,
    ):
        async with client_of(server.url) as client:
            name = await begin(client, f"{mark}; true", ANYWHERE)
            await until(lambda: runs(mark))
            killed.kill()
            with running_worker("ours", server.url, tmp_path, 0):
                response = await client.execution.wait(name, timeout=60)
            assert (response.status.code, response.result.exit_code) == (code_pb2.OK, 0)
            assert response.result.execution_metadata.worker == "ours"
        await nothing_left(lambda: processes(mark))
