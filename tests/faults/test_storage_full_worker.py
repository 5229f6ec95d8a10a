"""A worker's disk is full: its name is in what it says, others go on, and so does it later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.rpc import code_pb2
from rounds import kinds
from running import RunningServer, running_server, running_worker
from small_disk import SmallDisk, small_disk

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import Client, Inputs, client_of, half_made, open_world

BOUND = 60.0
FILLS: Mapping[str, Callable[[SmallDisk], None]] = {
    "no-space": SmallDisk.fill_bytes,
    "no-inodes": SmallDisk.fill_files,
}
pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server with room, and a worker `cramped` on a small disk."""

    server: RunningServer
    disk: SmallDisk
    stack: ExitStack
    directory: Path

    def add_worker(self) -> None:
        """Another worker, `roomy`, which has room."""
        self.stack.enter_context(running_worker("roomy", self.server.url, self.directory, 0))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", megabytes=24, files=1000))
        server = stack.enter_context(running_server(tmp_path / "data", command="scheduler run"))
        worker = running_worker("cramped", server.url, disk.path, 0, prefix=disk.prefix)
        stack.enter_context(worker)
        yield Site(server=server, disk=disk, stack=stack, directory=tmp_path)


async def run(client: Client, number: int, *, size: int = 300_000) -> re_pb.ExecuteResponse:
    content = f"input {number} ".encode() * (size // 8)
    async with asyncio.timeout(BOUND):
        return await client.run(
            "cat in > out", inputs=Inputs(files={"in": content}), output_paths=["out"]
        )


def check_cramped(response: re_pb.ExecuteResponse) -> None:
    """Not the action's fault: no exit code that a client could believe, and nothing cached."""
    assert response.status.code == code_pb2.RESOURCE_EXHAUSTED, response
    assert "cramped" in response.status.message, response.status


def remains(site: Site) -> list[Path]:
    """What an action leaves in a worker's directory: nothing."""
    worker = site.disk.seen / "cramped"
    actions = worker / "slots" / "0"
    return [*half_made(worker / "cache"), *(actions.iterdir() if actions.exists() else ())]


@pytest.mark.parametrize("kind", kinds(1, list(FILLS)))
async def test_the_only_worker_is_full(kind: str, site: Site) -> None:
    async with client_of(site.server.url) as client:
        assert (await run(client, 0)).result.exit_code == 0
        FILLS[kind](site.disk)
        check_cramped(await run(client, 1))
        assert (await run(client, 0)).cached_result
        site.disk.free()
        again = await run(client, 1)
        assert again.status.code == 0 and again.result.exit_code == 0, again
        async with asyncio.timeout(20):
            while remains(site):
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "script",
    kinds(
        2,
        [
            "head -c 60000000 /dev/zero > out; true",
            "head -c 60000000 /dev/zero > /tmp/x; echo made > out; true",
            "head -c 60000000 /dev/zero > out",
            "head -c 60000000 /dev/zero; true",
        ],
    ),
)
async def test_an_action_that_fills_the_disk(script: str, tmp_path: Path) -> None:
    """A cut output is none, also when the command says nothing about it."""
    with small_disk(tmp_path / "disk", megabytes=24) as disk:
        async with open_world(ScriptedQueue()) as world:
            with running_worker("cramped", world.url, disk.path, 0, prefix=disk.prefix) as worker:
                async with asyncio.timeout(BOUND):
                    check_cramped(await world.run(script, output_paths=["out"]))
                    after = await world.run("echo > out", output_paths=["out"])
                assert after.status.code == 0 and after.result.exit_code == 0, after
                # here and not at the end of the block, which would wait without serving
                worker.terminate()
                assert await asyncio.to_thread(worker.wait, BOUND) == 0


@pytest.mark.parametrize("kind", kinds(1, ["no-inodes", "no-space"]))
async def test_another_worker_takes_over(kind: str, site: Site) -> None:
    """Also when it is busy at first: the full one does not use up an action's attempts."""
    async with client_of(site.server.url) as client:
        assert (await run(client, 0)).result.exit_code == 0
        FILLS[kind](site.disk)
        site.add_worker()
        responses = await asyncio.gather(
            client.run("sleep 3; echo > out", output_paths=["out"]),
            *(run(client, number) for number in range(1, 6)),
        )
        for response in responses:
            assert response.status.code == 0, response.status
            assert response.result.exit_code == 0
            assert response.result.execution_metadata.worker == "roomy"
