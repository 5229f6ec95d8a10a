"""kill -9 of a worker at random points, over and over: nothing is left, nothing wrong comes out."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from leftovers import nothing_left, processes
from rounds import chance as seeded_chance
from rounds import rounds

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.test_worker_inputs import LISTING, MANY, VANDALS
from tests.worker.test_worker_process import ROOT, WORKER
from tests.worker.world import SHA256, World, half_made, open_world, serving, worker_config

SAMPLE = 25
SIZE = 3_000_000
SCRIPT = "sleep 0.2; {vandal}; head -c {size} /dev/zero > out # {number} {mark}"


async def listing(world: World, root: Digest) -> str:
    digest = await world.put_action(re_pb.Command(arguments=["/bin/sh", "-c", LISTING]), root)
    response = await world.execute(digest)
    assert response.status.code == 0, response.status
    return await world.stdout(response)


@pytest.mark.fault
@pytest.mark.timeout(1800)
async def test_a_worker_killed_at_random_points(tmp_path: Path) -> None:
    chance = seeded_chance()
    mark = f"mark-{chance.random()}"
    queue = ScriptedQueue(interval=0.2)
    directory = tmp_path / "w"
    expected = Digest.of(bytes(SIZE), SHA256).to_message()
    async with open_world(queue) as world:
        root = await world.put_inputs(MANY)
        async with serving(worker_config(world.url, directory)):
            before = await listing(world, root)
        code = WORKER.format(
            root=str(ROOT), url=world.url, directory=str(directory), sandbox="bubblewrap"
        )
        for number in range(rounds(SAMPLE)):
            script = SCRIPT.format(
                vandal=chance.choice(list(VANDALS.values())), size=SIZE, number=number, mark=mark
            )
            command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
            lease = queue.give(await world.put_action(command, root))
            with subprocess.Popen([sys.executable, "-c", code]) as worker:
                try:
                    await queue.until(chance.choice(["idle", "running"]))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(chance.random() * 0.4):
                            await lease.done.wait()
                finally:
                    worker.kill()
            if lease.done.is_set():
                assert lease.response.status.code == 0, lease.response.status
                assert lease.response.result.output_files[0].digest == expected
            queue.requests.clear()
            await nothing_left(lambda: processes(mark), lambda: processes(directory))
        queue.lease = None
        async with serving(worker_config(world.url, directory)):
            assert await listing(world, root) == before
        assert not (directory / "slots").exists()
        assert not half_made(directory / "cache")
