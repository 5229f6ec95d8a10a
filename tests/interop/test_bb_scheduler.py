"""Our worker serves Buildbarn's scheduler, with Buildbarn's storage behind it.

Runs where BB_SCHEDULER and BB_STORAGE name the programs; no package registry has them.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from google.rpc import code_pb2
from leftovers import nothing_left, processes
from running import BIN

from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.world import Client, Inputs, client_of

from .buildbarn import daemon, runs
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

LINUX = re_pb.Platform(properties=[re_pb.Platform.Property(name="OSFamily", value="linux")])


@pytest.fixture
def programs(tools: Tools) -> list[Path]:
    return tools.buildbarn("BB_SCHEDULER", "BB_STORAGE")


@contextmanager
def our_worker(state: Path) -> Iterator[subprocess.Popen[str]]:
    """`distbuild worker run` for a Buildbarn scheduler; killed if it does not end by itself."""
    process = subprocess.Popen(
        [BIN / "distbuild", "worker", "run", "--id", "ours", "--slots", "2",
         "--server", f"unix:{state}/workers", "--cas", f"unix:{state}/storage",
         "--results", "worker", "--machine-properties", "off", "--property", "OSFamily=linux",
         "--container-engine", "none", "--cache-dir", state / "ours"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert "ours" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@asynccontextmanager
async def site(programs: list[Path], state: Path) -> AsyncIterator[Client]:
    """Buildbarn with our worker, and a client of it."""
    scheduler, storage = programs
    with (
        daemon(storage, "bb_storage", state, socket="storage"),
        daemon(scheduler, "bb_scheduler", state, socket="workers"),
        our_worker(state) as worker,
    ):
        async with client_of(f"unix:{state}/storage") as client:
            await known(client)
            yield client
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 60) == 0
    assert not processes(state)


async def known(client: Client) -> None:
    """Buildbarn refuses what no worker has asked for yet."""
    async with asyncio.timeout(60):
        while True:
            try:
                response = await client.run("true", action=re_pb.Action(platform=LINUX))
            except DistbuildError:
                await asyncio.sleep(0.2)
                continue
            if response.status.code == code_pb2.OK:
                return
            await asyncio.sleep(0.2)


async def test_outputs_streams_and_the_action_cache(programs: list[Path], short_path: Path) -> None:
    script = "cat in/deep > out; mkdir d; ln -s ../out d/link; echo said; echo warned >&2; exit 3"
    inputs = Inputs(files={"in/deep": b"content"})
    async with site(programs, short_path) as client:
        command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out", "d"])
        for code in (3, 0):
            command.arguments[2] = script.replace("exit 3", f"exit {code}")
            digest = await client.put_action(
                command, await client.put_inputs(inputs), action=re_pb.Action(platform=LINUX)
            )
            response = await client.execute(digest)
            result = response.result
            assert (response.status.code, result.exit_code) == (code_pb2.OK, code)
            assert result.execution_metadata.worker.startswith("ours")
            assert await client.stdout(response) == "said\n"
            assert await client.stderr(response) == "warned\n"
            assert await client.read(result.output_files[0].digest) == b"content"
            tree = await client.read(result.output_directories[0].tree_digest)
            assert re_pb.Tree.FromString(tree).root.symlinks[0].target == "../out"
            # Its scheduler leaves that to workers, which keep successes alone.
            kept = await client.action_cache.get(digest)
            assert (kept is None) == (code != 0)
            assert kept is None or kept.output_files == result.output_files


async def test_timeouts_and_parallel_actions(programs: list[Path], short_path: Path) -> None:
    async with site(programs, short_path) as client:
        mark = f"sleep 300.{uuid.uuid4().int % 10**9:09}"
        hasty = re_pb.Action(platform=LINUX, timeout={"seconds": 1})
        response = await client.run(f"setsid {mark} & {mark}", action=hasty)
        assert response.status.code == code_pb2.DEADLINE_EXCEEDED
        assert "worker ours" in response.status.message
        await nothing_left(lambda: processes(mark))
        begun = asyncio.get_running_loop().time()
        action = re_pb.Action(platform=LINUX)
        responses = await asyncio.gather(
            *(client.run(f"sleep 3; echo {number}", action=action) for number in range(2))
        )
        assert asyncio.get_running_loop().time() - begun < 5.5
        assert [await client.stdout(each) for each in responses] == ["0\n", "1\n"]


async def test_a_drained_worker_finishes_first(programs: list[Path], short_path: Path) -> None:
    scheduler, storage = programs
    mark = f"sleep 3.{uuid.uuid4().int % 10**9:09}"
    with (
        daemon(storage, "bb_storage", short_path, socket="storage"),
        daemon(scheduler, "bb_scheduler", short_path, socket="workers"),
        our_worker(short_path) as worker,
    ):
        async with client_of(f"unix:{short_path}/storage") as client:
            await known(client)
            action = re_pb.Action(platform=LINUX)
            running = asyncio.create_task(client.run(f"{mark}; echo done", action=action))
            async with asyncio.timeout(30):
                while not runs(mark):
                    await asyncio.sleep(0.1)
            worker.send_signal(signal.SIGTERM)
            response = await asyncio.wait_for(running, 30)
            assert await client.stdout(response) == "done\n"
            assert await asyncio.to_thread(worker.wait, 30) == 0


async def test_a_killed_scheduler_is_served_again(programs: list[Path], short_path: Path) -> None:
    """Buildbarn's remembers nothing: the worker drops what it ran, and the client asks again."""
    scheduler, storage = programs
    mark = f"sleep 300.{uuid.uuid4().int % 10**9:09}"
    with (
        daemon(storage, "bb_storage", short_path, socket="storage"),
        our_worker(short_path),
    ):
        async with client_of(f"unix:{short_path}/storage") as client:
            with daemon(scheduler, "bb_scheduler", short_path, socket="workers") as killed:
                await known(client)
                running = asyncio.create_task(client.run(mark, action=re_pb.Action(platform=LINUX)))
                async with asyncio.timeout(30):
                    while not runs(mark):
                        await asyncio.sleep(0.1)
                killed.kill()
                killed.wait(30)
            running.cancel()
            await asyncio.wait([running])
            with daemon(scheduler, "bb_scheduler", short_path, socket="workers"):
                await known(client)
                await nothing_left(lambda: processes(mark))
