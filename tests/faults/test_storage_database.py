"""The database is locked, lost or read-only: nothing hangs, and what went on goes on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import BIN, RunningServer, running_server
from small_disk import small_disk

from remote_apis.digest import Digest
from remote_apis.errors import Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.world import Client, Inputs, client_of

BUSY = 10.0
"""Seconds for which the database waits for a lock, and the journal for the database."""
BOUND = 3 * BUSY + 15
pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "data", "--workers", "1") as server:
        yield server


@contextlib.contextmanager
def locked(server: RunningServer) -> Iterator[None]:
    """Another process holds the database's write lock."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, server.data_dir / "server.sqlite"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            process.communicate(timeout=30)


async def prepare(client: Client, number: int) -> Digest:
    root = await client.put_inputs(Inputs(files={"in": b"x"}))
    arguments = ["/bin/sh", "-c", f"echo {number} > out"]
    command = re_pb.Command(arguments=arguments, output_paths=["out"])
    return await client.put_action(command, root)


async def run(client: Client, action: Digest) -> re_pb.ActionResult:
    response = await client.execute(action)
    assert response.status.code == 0, response.status
    assert response.result.exit_code == 0
    return response.result


async def test_a_lock_shorter_than_the_patience(server: RunningServer) -> None:
    async with client_of(server.url, patience=0) as client:
        known, *fresh = [await prepare(client, number) for number in range(4)]
        result = await run(client, known)
        with locked(server):
            calls = [
                asyncio.ensure_future(run(client, fresh[0])),
                asyncio.ensure_future(client.action_cache.update(fresh[1], result)),
            ]
            async with asyncio.timeout(BUSY):
                assert await client.action_cache.get(known) is not None
                assert await client.action_cache.get(fresh[2]) is None
            await asyncio.sleep(2)
            assert not any(call.done() for call in calls)
        async with asyncio.timeout(BOUND):
            await asyncio.gather(*calls)
        assert await client.action_cache.get(fresh[0]) is not None
        assert await client.action_cache.get(fresh[1]) is not None


async def test_a_lock_longer_than_the_patience(server: RunningServer) -> None:
    async with client_of(server.url, patience=0) as client:
        actions = [await prepare(client, number) for number in range(5)]
        result = await run(client, actions[0])
        with locked(server):
            async with asyncio.timeout(BOUND):
                outcomes = await asyncio.gather(
                    run(client, actions[1]),
                    client.action_cache.update(actions[3], result),
                    return_exceptions=True,
                )
            assert all(isinstance(each, Unavailable) for each in outcomes), outcomes
            assert all("database" in str(each) for each in outcomes), outcomes
            async with asyncio.timeout(BUSY):
                assert await client.action_cache.get(actions[0]) is not None
                assert await client.action_cache.get(actions[4]) is None
                assert await client.put(b"blobs need no database")
        async with asyncio.timeout(BOUND):
            for action in actions[1:3]:
                await run(client, action)
            await client.action_cache.update(actions[4], result)
        assert await client.action_cache.get(actions[4]) is not None


async def test_a_deleted_database(tmp_path: Path) -> None:
    """Results are forgotten with it, no blob is; the server goes on, and starts again."""
    with running_server(tmp_path / "data", "--workers", "1") as server:
        async with client_of(server.url, patience=0) as client:
            actions = [await prepare(client, number) for number in range(3)]
            result = await run(client, actions[0])
            for path in server.data_dir.glob("server.sqlite*"):
                path.unlink()
            async with asyncio.timeout(BOUND):
                outcomes = await asyncio.gather(
                    run(client, actions[1]),
                    client.action_cache.update(actions[2], result),
                    client.action_cache.get(actions[0]),
                    client.action_cache.get(actions[2]),
                    return_exceptions=True,
                )
            print(outcomes)
            for outcome in outcomes:
                assert not isinstance(outcome, BaseException) or isinstance(outcome, Unavailable)
    with running_server(tmp_path / "data", "--workers", "1") as server:
        async with client_of(server.url) as client:
            assert await client.read(result.output_files[0].digest) == b"0\n"
            for action in actions:
                await run(client, action)


def test_a_read_only_disk(tmp_path: Path) -> None:
    """One line that says so, and no traceback."""
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        data = disk.path / "data"
        with running_server(data, command="scheduler run", prefix=disk.prefix):
            pass
        subprocess.run(
            [*disk.prefix, "mount", "-o", "remount,ro", disk.path], check=True, timeout=30
        )
        command = (BIN / "distbuild", "scheduler", "run", "--listen", "127.0.0.1:0")
        done = subprocess.run(
            [*disk.prefix, *command, "--data-dir", data],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert "read-only" in done.stderr.lower()


@pytest.mark.parametrize("content", [b"", b"this is no database at all" * 1000])
def test_a_damaged_database(content: bytes, tmp_path: Path) -> None:
    """An empty file is a new database; anything else is refused in one line."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "server.sqlite").write_bytes(content)
    if not content:
        with running_server(data, command="scheduler run"):
            return
    done = subprocess.run(
        [BIN / "distbuild", "scheduler", "run", "--listen", "127.0.0.1:0", "--data-dir", data],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
