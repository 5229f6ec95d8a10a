"""A worker as a process: its directory, its HTTP port, and kill -9."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.scripted_queue import ScriptedQueue
from tests.worker.world import Inputs, open_world, serving, worker_config
from worker.health import HealthServer
from worker.process import wait_for_exit
from worker.run import open_worker
from worker.survivors import session_members

ROOT = Path(__file__).parent.parent.parent
WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from worker.config import WorkerConfig
from worker.run import run_worker
asyncio.run(run_worker(WorkerConfig(name="w", server={url!r}, directory=Path({directory!r}),
    slots=1, sandbox={sandbox!r})))
"""


async def test_two_workers_do_not_share_a_directory(tmp_path: Path) -> None:
    config = worker_config("grpc://127.0.0.1:1", tmp_path, sandbox="none")
    async with open_worker(config):
        with pytest.raises(InvalidRequest, match="another worker"):
            async with open_worker(config):
                pass
    async with open_worker(config):
        pass


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="cannot be used"):
        async with open_worker(
            worker_config("grpc://127.0.0.1:1", tmp_path / "file" / "w", sandbox="none")
        ):
            pass


async def test_leftovers_are_removed_at_the_start(tmp_path: Path) -> None:
    for name in ("slots/0/7/root/in", "trees/3/d"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("left")
    async with open_worker(worker_config("grpc://127.0.0.1:1", tmp_path, sandbox="none")):
        assert not list((tmp_path / "slots").iterdir())
        assert not list((tmp_path / "trees").iterdir())


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_health_and_metrics(tmp_path: Path) -> None:
    queue = ScriptedQueue()
    async with open_world(queue) as world:
        config = worker_config(world.url, tmp_path, http_address=("127.0.0.1", 0), sandbox="none")
        async with serving(config) as worker, HealthServer(config, worker) as server:
            assert server.port
            response = await world.run("true", inputs=Inputs(files={"a": b"12345"}))
            assert response.status.code == 0
            assert await asyncio.to_thread(fetch, server.port, "/healthz") == (200, "ok\n")
            status, text = await asyncio.to_thread(fetch, server.port, "/metrics?x=1")
            assert status == 200
            assert 'distbuild_worker_actions_total{worker="worker-1"} 1\n' in text
            assert 'distbuild_worker_cache_bytes{worker="worker-1"} 5\n' in text
            assert (await asyncio.to_thread(fetch, server.port, "/other"))[0] == 404
            assert (await asyncio.to_thread(fetch, server.port, "/healthz", "POST"))[0] == 405
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x16\x03\x01 not http\r\n\r\n")
            assert b" 405 " in await reader.readline()
            writer.close()
            await writer.wait_closed()


async def test_a_worker_without_a_scheduler_is_not_healthy(tmp_path: Path) -> None:
    config = worker_config(
        "grpc://127.0.0.1:1", tmp_path, http_address=("127.0.0.1", 0), sandbox="none"
    )
    async with serving(config) as worker, HealthServer(config, worker) as server:
        assert server.port
        assert (await asyncio.to_thread(fetch, server.port, "/healthz"))[0] == 503


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        with pytest.raises(InvalidRequest, match=str(port)):
            async with open_worker(
                worker_config(
                    "grpc://127.0.0.1:1",
                    tmp_path,
                    http_address=("127.0.0.1", port),
                    sandbox="none",
                )
            ):
                pass


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
async def test_kill_9_and_a_new_start(tmp_path: Path, sandbox: str) -> None:
    queue = ScriptedQueue(interval=0.2)
    directory = tmp_path / "w"
    async with open_world(queue) as world:
        code = WORKER.format(
            root=str(ROOT), url=world.url, directory=str(directory), sandbox=sandbox
        )
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            try:
                root = await world.put_inputs(Inputs(files={"in": b"in"}))
                script = "sleep 300 & sleep 300; true"
                digest = await world.put_action(
                    re_pb.Command(arguments=["/bin/sh", "-c", script]), root
                )
                lease = queue.give(digest)
                await queue.until("running")
                pids = await asyncio.to_thread(sleepers_below, directory, sandbox)
                assert len(pids) >= 2
            finally:
                process.kill()
        assert list((directory / "slots").glob("*/*/root"))
        async with serving(worker_config(world.url, directory, sandbox=sandbox)):
            async with asyncio.timeout(30):
                for pid in pids:
                    await wait_for_exit(pid)
                # The scheduler gives the action again, as the new worker says that it is idle.
                await queue.until("running")
            queue.is_cancelling = True
            await queue.until("idle")
        assert not lease.done.is_set()
        assert not (directory / "slots").exists()


def sleepers_below(directory: Path, sandbox: str) -> list[int]:
    """The processes of the action that runs there."""
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    is_sleep = (entry / "cmdline").read_bytes() == b"sleep\x00300\x00"
                    where = (entry / "cwd").readlink()
                except OSError:
                    continue
                inside = where == Path("/build") or where.is_relative_to(directory)
                if is_sleep and inside:
                    found.append(int(entry.name))
        if len(found) >= 2:
            return found


def test_a_session_knows_its_members() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            assert list(session_members(process.pid)) == [process.pid]
        finally:
            process.kill()
    assert not list(session_members(process.pid))
