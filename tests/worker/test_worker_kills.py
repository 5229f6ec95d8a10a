"""kill -9 of a worker at random points, over and over: nothing is left, nothing wrong comes out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.test_worker_inputs import LISTING, MANY, VANDALS
from tests.worker.test_worker_process import ROOT, WORKER
from tests.worker.world import SHA256, World, open_world, serving, worker_config

KILLS = int(os.environ.get("DISTBUILD_FAULT_ROUNDS", "25"))
"""A sample by default; DISTBUILD_FAULT_ROUNDS=200 is the whole run, which takes minutes."""
SIZE = 3_000_000
SCRIPT = "sleep 0.05; {vandal}; head -c {size} /dev/zero > out # {number} {mark}"


def left_over(mark: str) -> list[int]:
    """Processes that belong to an action with this mark on its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if mark.encode() in line and state not in "ZX":
                    found.append(int(entry.name))
    return found


async def listing(world: World, root: Digest) -> str:
    digest = await world.put_action(re_pb.Command(arguments=["/bin/sh", "-c", LISTING]), root)
    response = await world.execute(digest)
    assert response.status.code == 0, response.status
    return await world.stdout(response)


@pytest.mark.fault
@pytest.mark.timeout(1800)
async def test_a_worker_killed_at_random_points(tmp_path: Path) -> None:
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    chance = random.Random(seed)
    mark = f"mark-{seed}-{chance.random()}"
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
        for number in range(KILLS):
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
            async with asyncio.timeout(10):
                while left_over(mark):
                    await asyncio.sleep(0.02)
        queue.lease = None
        async with serving(worker_config(world.url, directory)):
            assert await listing(world, root) == before
        assert not (directory / "slots").exists()
        assert not list((directory / "cache" / "temporary").iterdir())
