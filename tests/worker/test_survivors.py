"""A worker that is killed takes its actions with it, wherever in its work it is hit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from leftovers import files, nothing_left, processes

from remote_apis.bubblewrap import find_bubblewrap
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.test_worker_process import ROOT, WORKER
from tests.worker.world import Inputs, World, open_world, serving, worker_config
from worker import survivors
from worker.config import ResourceLimits
from worker.process import wait_for_exit
from worker.sandbox.bubblewrap import BubblewrapProgram, BubblewrapSandbox
from worker.sandbox.interface import SandboxRequest
from worker.sandbox.none import NoSandbox
from worker.tether import tether

# Both bring bubblewrap to a halt, once the file `armed` is there, until something is written.
HALTS = {
    "before it watches its parent": (
        'touch {here}/halted; read -r _ < {here}/halt; exec {bwrap} "$@"'
    ),
    "before its child does": (
        'exec {{fd}}<> {here}/halt; touch {here}/halted; exec {bwrap} --block-fd "$fd" "$@"'
    ),
}


class Halting:
    """A `bwrap` that stops on its way, for programs that find it on `path`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._handles: list[int] = []

    @property
    def path(self) -> str:
        return f"{self.directory}:{os.environ['PATH']}"

    async def reached(self) -> None:
        async with asyncio.timeout(30):
            while not (self.directory / "halted").exists():
                await asyncio.sleep(0.01)

    def arm(self) -> None:
        (self.directory / "armed").touch()

    def release(self) -> None:
        # Nobody may be there to read it.
        handle = os.open(self.directory / "halt", os.O_RDWR | os.O_NONBLOCK)
        self._handles.append(handle)
        os.write(handle, b"\n")

    def close(self) -> None:
        for handle in self._handles:
            os.close(handle)


@contextmanager
def halting_bubblewrap(directory: Path, script: str) -> Iterator[Halting]:
    directory.mkdir()
    os.mkfifo(directory / "halt")
    bwrap = find_bubblewrap()
    body = script.format(here=directory, bwrap=bwrap)
    program = directory / "bwrap"
    program.write_text(f'#!/bin/bash\n[ -e {directory}/armed ] || exec {bwrap} "$@"\n{body}\n')
    program.chmod(0o755)
    halting = Halting(directory)
    try:
        yield halting
    finally:
        halting.close()


@contextmanager
def worker_process(
    world: World, directory: Path, *, sandbox: str = "bubblewrap", path: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    code = WORKER.format(root=str(ROOT), url=world.url, directory=str(directory), sandbox=sandbox)
    environment = os.environ | ({"PATH": path} if path else {})
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


async def give(world: World, queue: ScriptedQueue, script: str) -> None:
    root = await world.put_inputs(Inputs())
    command = re_pb.Command(arguments=["/bin/sh", "-c", script])
    queue.give(await world.put_action(command, root))


@pytest.mark.parametrize("halt", HALTS)
async def test_killed_while_bubblewrap_starts(tmp_path: Path, halt: str) -> None:
    queue = ScriptedQueue(interval=0.2)
    with halting_bubblewrap(tmp_path / "bin", HALTS[halt]) as halting:
        async with open_world(queue) as world:
            with worker_process(world, tmp_path / "w", path=halting.path):
                await queue.until("idle")
                halting.arm()
                await give(world, queue, f"touch {tmp_path}/ran; sleep 300 # {tmp_path}")
                await halting.reached()
            halting.release()
            await nothing_left(lambda: processes(tmp_path / "w"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("halt", HALTS)
async def test_cancelled_while_bubblewrap_starts(tmp_path: Path, halt: str) -> None:
    with halting_bubblewrap(tmp_path / "bin", HALTS[halt]) as halting, tether_in(tmp_path) as held:
        program = BubblewrapProgram(bwrap=str(halting.directory / "bwrap"))
        sandbox = BubblewrapSandbox(program, tmp_path, held)
        halting.arm()
        running = asyncio.create_task(
            sandbox.run(request_in(tmp_path, f"sleep 300 # {tmp_path}"), timeout=None)
        )
        await halting.reached()
        running.cancel()
        await asyncio.sleep(0.1)
        halting.release()
        with pytest.raises(asyncio.CancelledError):
            await running
        # At once: it says that nothing is left.
        assert not [line for line in processes(tmp_path) if "survivors.py" not in line]


@contextmanager
def tether_in(directory: Path) -> Iterator[int]:
    (directory / "tether").mkdir()
    with tether(directory / "tether") as held:
        yield held


def request_in(directory: Path, script: str) -> SandboxRequest:
    root = directory / "root"
    root.mkdir()
    return SandboxRequest(
        slot=0,
        arguments=("/bin/sh", "-c", script),
        environment={"PATH": os.environ["PATH"]},
        working_directory="",
        root=root,
        temporary=directory / "tmp",
        stdout=directory / "stdout",
        stderr=directory / "stderr",
        limits=ResourceLimits(),
    )


async def test_an_action_in_bubblewrap_does_not_inherit_the_tether(tmp_path: Path) -> None:
    bwrap = find_bubblewrap()
    assert bwrap is not None
    with tether_in(tmp_path) as held:
        sandbox = BubblewrapSandbox(BubblewrapProgram(bwrap=bwrap), tmp_path, held)
        request = request_in(tmp_path, "ls -l /proc/self/fd | grep -c tether; true")
        finished = await sandbox.run(request, timeout=30)
    assert finished.exit_code == 0
    assert request.stdout.read_text() == "0\n"


# What the action's processes do with what they inherited, and with their session.
FAMILIES = {
    "children": "sleep 300 & sleep 300",
    "a daemon": "setsid sleep 300 & sleep 300",
    "without descriptors": (
        'python3 -c \'import subprocess; subprocess.run(["sleep", "300"])\' & sleep 300'
    ),
    "orphans": "(sleep 300 &) ; sleep 300",
}


@pytest.mark.parametrize("family", FAMILIES)
async def test_killed_without_a_sandbox(tmp_path: Path, family: str) -> None:
    queue = ScriptedQueue(interval=0.2)
    async with open_world(queue) as world:
        with worker_process(world, tmp_path / "w", sandbox="none"):
            await give(world, queue, f"export PATH={os.environ['PATH']}; {FAMILIES[family]}")
            await queue.until("running")
            async with asyncio.timeout(30):
                while len(sleepers(tmp_path / "w")) < 2:
                    await asyncio.sleep(0.05)
        await nothing_left(lambda: processes(tmp_path / "w"))


def sleepers(directory: Path) -> list[str]:
    return [line for line in processes(directory) if "sleep 300" in line]


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
async def test_killed_with_its_watcher(tmp_path: Path, sandbox: str) -> None:
    """The next worker ends what both left, before it touches the directories."""
    queue = ScriptedQueue(interval=0.2)
    directory = tmp_path / "w"
    async with open_world(queue) as world:
        async with (
            orphan(world, queue, directory, sandbox) as survivor,
            serving(worker_config(world.url, directory, sandbox=sandbox)),
        ):
            assert survivor not in pids(directory)
        queue.is_cancelling = True
    assert not processes(directory)
    assert not files(tmp_path, ["w/slots", "w/processes", "w/sandbox/try"])


@asynccontextmanager
async def orphan(
    world: World, queue: ScriptedQueue, directory: Path, sandbox: str
) -> AsyncIterator[int]:
    """A process that holds the tether while neither the worker nor its watcher lives."""
    with worker_process(world, directory, sandbox=sandbox) as worker:
        await give(world, queue, "sleep 300")
        await queue.until("running")
        async with asyncio.timeout(30):
            while not (held := [pid for pid in holding(directory) if pid != worker.pid]):
                await asyncio.sleep(0.05)
        watcher = next(line for line in processes(directory) if "survivors.py" in line)
        os.kill(int(watcher.split()[0]), signal.SIGKILL)
        survivor = held[-1]
        if sandbox == "bubblewrap":
            # What bubblewrap itself ends is gone already: one that it would not.
            survivor = await another_holder(directory)
    try:
        assert survivor in pids(directory)
        yield survivor
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(survivor, signal.SIGKILL)
        await wait_for_exit(survivor)


async def another_holder(directory: Path) -> int:
    handle = os.open(directory / "processes", os.O_WRONLY)
    try:
        process = await asyncio.create_subprocess_exec(
            "sleep", "300", pass_fds=(handle,), start_new_session=True
        )
        return process.pid
    finally:
        os.close(handle)


def pids(directory: Path) -> list[int]:
    return [int(line.split()[0]) for line in processes(directory)]


def holding(directory: Path) -> list[int]:
    """Processes that can write to the pipe."""
    pipe = os.open(directory / "processes", os.O_RDONLY | os.O_NONBLOCK)
    found = []
    try:
        for handle in survivors.holders(pipe, survivors.WRITERS):
            text = Path(f"/proc/self/fdinfo/{handle}").read_text()
            found.append(int(text.partition("Pid:")[2].split()[0]))
            os.close(handle)
    finally:
        os.close(pipe)
    return found


async def test_a_worker_that_ends_leaves_no_watcher(tmp_path: Path) -> None:
    async with (
        open_world(ScriptedQueue()) as world,
        serving(worker_config(world.url, tmp_path / "w", sandbox="none")),
    ):
        # A program that is just being started has no command line for a moment.
        async with asyncio.timeout(20):
            while not [line for line in processes(tmp_path / "w") if "survivors.py" in line]:
                await asyncio.sleep(0.01)
    assert not processes(tmp_path / "w")
    assert not (tmp_path / "w" / "processes").exists()


async def test_without_a_sandbox_an_action_may_write_to_what_it_inherited(tmp_path: Path) -> None:
    """It would fill the pipe and block; nothing else comes of it."""
    with tether_in(tmp_path) as held:
        script = f"yes > /proc/self/fd/{held} & sleep 0.3"
        finished = await NoSandbox(held).run(request_in(tmp_path, script), timeout=30)
    assert finished.exit_code == 0
    assert not processes(tmp_path)
