"""Outputs that take long to hash, or would take years."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from google.rpc import code_pb2

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import Inputs, open_world, serving, worker_config


def size_of_disk(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_blocks * disk.f_frsize


async def test_a_file_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    size = size_of_disk(tmp_path) + 2**30
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path)),
    ):
        response = await world.run(f"echo said; truncate -s {size} out", output_paths=["out"])
        assert response.status.code == code_pb2.FAILED_PRECONDITION, response
        assert "worker worker-1" in response.status.message
        assert "'out'" in response.status.message
        assert await world.stdout(response) == "said\n"
        within = f"mkdir d; truncate -s {size} d/f"
        response = await world.run(within, output_paths=["d"])
        assert response.status.code == code_pb2.FAILED_PRECONDITION, response
        response = await world.run(f"{within}; mv d other", output_paths=["d"])
        assert response.status.code == 0, response


async def test_cancelling_ends_the_hashing(tmp_path: Path) -> None:
    """The slot is free at once, and not when half a disk of zeros is hashed."""
    queue = ScriptedQueue(interval=0.3)
    size = min(size_of_disk(tmp_path) // 2, 2**42)
    async with open_world(queue) as world, serving(worker_config(world.url, tmp_path)):
        command = re_pb.Command(
            arguments=["truncate", "-s", str(size), "out"], output_paths=["out"]
        )
        lease = queue.give(await world.put_action(command, await world.put_inputs(Inputs())))
        await queue.until("uploading_outputs")
        queue.is_cancelling = True
        async with asyncio.timeout(8):
            await queue.until("idle")
        assert not lease.done.is_set()
        assert (await world.run("exit 3")).result.exit_code == 3
    assert not (tmp_path / "slots").exists()
