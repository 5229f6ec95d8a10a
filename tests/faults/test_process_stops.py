"""Actions killed under their worker, and workers that stop and come back too late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from leftovers import commands, nothing_left, processes
from rounds import chance as seeded_chance
from rounds import rounds
from running import running_server

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.scheduler.settings import SchedulerSettings
from tests.worker.test_worker_process import ROOT
from tests.worker.world import Inputs, World, client_of, open_world, serving, worker_config

LOST_AFTER = SchedulerSettings().worker_lost_after
HASTY = SchedulerSettings(busy_interval=0.5, poll_interval=1.0, worker_lost_after=3.0)
WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from worker.config import WorkerConfig
from worker.run import run_worker
asyncio.run(run_worker(WorkerConfig(name={name!r}, server={url!r}, directory=Path({directory!r}),
    slots=1)))
"""
ONCE_ONLY = "cat /proc/sys/kernel/random/uuid > out; "
"""Every run of an action makes another output, so that one can tell whose is recorded."""
pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]


async def put(world: World, script: str) -> Digest:
    command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
    return await world.put_action(command, await world.put_inputs(Inputs()))


def nap(seconds: int, chance: random.Random) -> str:
    """An argument for sleep(1) that no other process has."""
    return f"{seconds}.{chance.randrange(10**9):09}"


def parents_first(pids: list[int], parents: dict[int, int]) -> list[int]:
    return sorted(pids, key=lambda pid: parents[pid] in pids)


async def family(nap: str, *, is_sandboxed: bool = True) -> dict[int, list[int]]:
    """Processes of an action whose shell naps, parents first, once it does.

    By where they are: 0 outside of a namespace, 1 for its first process, 2 for the shell and sleep.
    """
    async with asyncio.timeout(30):
        while True:
            found: dict[int, list[int]] = {0: [], 1: [], 2: []}
            parents: dict[int, int] = {}
            for pid in commands(nap):
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    inside = status.partition("NSpid:")[2].splitlines()[0].split()[1:]
                    parents[pid] = int(status.partition("PPid:")[2].splitlines()[0])
                    found[min(int(inside[-1]), 2) if inside else 0].append(pid)
            if len(found[2 if is_sandboxed else 0]) >= 2:
                # Not by pid: their numbers begin anew in the middle of a long run of tests.
                return {where: parents_first(pids, parents) for where, pids in found.items()}
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
async def test_a_killed_command_has_failed_and_is_not_run_again(
    tmp_path: Path, sandbox: str
) -> None:
    """REAPI 2.12 ExecuteResponse: the status is OK where the command did run."""
    chance = seeded_chance()
    is_sandboxed = sandbox == "bubblewrap"
    async with (
        open_world() as world,
        serving(worker_config(world.url, tmp_path / "w", sandbox=sandbox)) as worker,
    ):
        for number in range(rounds(10)):
            mark = nap(300, chance)
            digest = await put(world, f"echo said; sleep {mark}; true")
            running = asyncio.create_task(world.execute(digest))
            found = await family(mark, is_sandboxed=is_sandboxed)
            await asyncio.sleep(chance.random() * 0.1)
            os.kill(found[2 if is_sandboxed else 0][0], signal.SIGKILL)
            response = await asyncio.wait_for(running, 30)
            assert response.status.code == 0, response.status
            assert response.result.exit_code == 128 + signal.SIGKILL
            assert await world.stdout(response) == "said\n"
            assert await world.action_cache.get(digest) is None
            assert worker.slots[0].state.finished == 2 * number + 1
            assert (await world.run(f"echo {number}; exit 3")).result.exit_code == 3
            await nothing_left(lambda mark=mark: processes(mark))  # type: ignore[misc]
    assert not processes(tmp_path)


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_killed_sandbox(tmp_path: Path, depth: int) -> None:
    """bubblewrap itself is the worker's trouble, and the action gets another chance."""
    chance = seeded_chance()
    async with (
        open_world() as world,
        serving(worker_config(world.url, tmp_path / "w")) as worker,
    ):
        for _ in range(rounds(4)):
            mark = nap(2, chance)
            before = worker.slots[0].state.finished
            digest = await put(world, f"{ONCE_ONLY} sleep {mark}; true")
            running = asyncio.create_task(world.execute(digest))
            os.kill((await family(mark))[depth][0], signal.SIGKILL)
            response = await asyncio.wait_for(running, 30)
            assert response.status.code == 0, response.status
            if depth == 0:
                assert response.result.exit_code == 0
                assert worker.slots[0].state.finished == before + 2
            else:
                # For all that one can tell the command was killed: all of its processes were.
                assert response.result.exit_code == 128 + signal.SIGKILL
            await nothing_left(lambda mark=mark: processes(mark))  # type: ignore[misc]
    assert not processes(tmp_path)


async def test_a_server_that_stops_takes_no_lease_away(tmp_path: Path) -> None:
    """It hears nobody meanwhile, which is no worker's fault."""
    chance, log = seeded_chance(), tmp_path / "log"
    with running_server(tmp_path / "data", "--workers", "2", "--sandbox", "none") as server:
        for _ in range(rounds(1)):
            log.write_text("")
            async with client_of(server.url) as client:
                script = f"echo ran >> {log}; sleep {chance.uniform(3, 35):.3f}"
                running = asyncio.create_task(client.run(script))
                async with asyncio.timeout(30):
                    while not log.read_text():
                        await asyncio.sleep(0.05)
                await asyncio.sleep(chance.random())
                server.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(LOST_AFTER + chance.uniform(3, 8))
                server.process.send_signal(signal.SIGCONT)
                response = await asyncio.wait_for(running, 90)
            assert response.status.code == 0, response.status
            assert log.read_text() == "ran\n"
        assert server.stop() == 0


@contextmanager
def worker_process(world: World, name: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    code = WORKER.format(root=str(ROOT), name=name, url=world.url, directory=str(tmp_path / name))
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield process
        finally:
            process.kill()


async def first_worker(world: World, digest: Digest) -> tuple[str, re_pb.ExecuteResponse]:
    """Who made the result that clients got."""
    response = await world.execute(digest)
    assert response.status.code == 0, response.status
    return response.result.execution_metadata.worker, response


async def test_a_worker_that_stops_loses_its_lease_and_serves_again(tmp_path: Path) -> None:
    chance = seeded_chance()
    async with open_world(settings=HASTY) as world:
        for number in range(rounds(2)):
            mark = nap(3, chance)
            with worker_process(world, f"slow-{number}", tmp_path) as slow:
                digest = await put(world, f"{ONCE_ONLY} sleep {mark}; true")
                running = asyncio.create_task(first_worker(world, digest))
                await family(mark)
                await asyncio.sleep(chance.random())
                slow.send_signal(signal.SIGSTOP)
                with worker_process(world, f"quick-{number}", tmp_path):
                    # The action itself has long ended when its worker goes on.
                    name, response = await asyncio.wait_for(running, 60)
                    assert name == f"quick-{number}"
                slow.send_signal(signal.SIGCONT)
                # It has a late report to make before it asks for this.
                other = await put(world, f"{ONCE_ONLY} # other {mark}")
                name, _ = await asyncio.wait_for(first_worker(world, other), 60)
                assert name == f"slow-{number}"
                recorded = await world.action_cache.get(digest)
                assert recorded is not None
                assert recorded.output_files == response.result.output_files
                assert recorded.execution_metadata.worker == f"quick-{number}"
            await nothing_left(lambda: processes(tmp_path))
