"""The server's disk is full: it says so, goes on reading, and is well again once there is room."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.rpc import code_pb2
from running import RunningServer, running_server, running_worker
from small_disk import SmallDisk, small_disk

from remote_apis.client.blobs import BlobSource
from remote_apis.digest import Digest
from remote_apis.errors import OutOfSpace, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.world import SHA256, Client, Inputs, client_of

BOUND = 45.0
"""Seconds in which everything ends: the journal is patient for 10, and so is the database."""
FILLS: Mapping[str, Callable[[SmallDisk], None]] = {
    "no-space": SmallDisk.fill_bytes,
    "no-inodes": SmallDisk.fill_files,
}
pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=48, files=1000) as disk:
        yield disk


@contextmanager
def serving(disk: SmallDisk) -> Iterator[RunningServer]:
    """A server on the small disk, without workers."""
    command = "scheduler run"
    with running_server(disk.path / "data", command=command, prefix=disk.prefix) as server:
        yield server


def blobs(seed: str) -> dict[Digest, bytes]:
    """A blob for a batch and one for a stream."""
    contents = [f"{seed} small".encode() * 100, f"{seed} large".encode() * 300_000]
    return {Digest.of(data, SHA256): data for data in contents}


async def upload(client: Client, contents: Mapping[Digest, bytes]) -> list[BaseException | None]:
    """Each by itself; what came of each."""
    uploads = (client.cas.upload([BlobSource(*item)]) for item in contents.items())
    return await asyncio.gather(*uploads, return_exceptions=True)


async def check_readable(client: Client, contents: Mapping[Digest, bytes]) -> None:
    assert await client.cas.find_missing(contents) == set()
    for digest, data in contents.items():
        assert await client.cas.read(digest) == data


async def prepare(client: Client, script: str) -> Digest:
    """An action, uploaded with all that it needs; it makes `out`."""
    root = await client.put_inputs(Inputs(files={"in": b"input"}))
    command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
    return await client.put_action(command, root)


def temporary_files(disk: SmallDisk) -> list[Path]:
    return list((disk.seen / "data" / "blobs" / "tmp").iterdir())


async def execute(client: Client, action: Digest) -> re_pb.ExecuteResponse:
    response = await client.execute(action)
    if response.status.code == code_pb2.RESOURCE_EXHAUSTED:
        raise OutOfSpace(response.status.message)
    assert response.status.code == 0, response.status
    return response


@pytest.mark.parametrize("kind", FILLS)
async def test_a_server_without_room(kind: str, disk: SmallDisk, tmp_path: Path) -> None:
    before, during = blobs("before"), blobs("during")
    with serving(disk) as server:
        with running_worker("roomy", server.url, tmp_path, 0):
            async with client_of(server.url, patience=0) as client:
                assert await upload(client, before) == [None, None]
                first = await prepare(client, "cat in > out; echo first")
                result = (await execute(client, first)).result
                second = await prepare(client, "cat in in > out; echo second")
                third = await prepare(client, "true")

                FILLS[kind](disk)
                async with asyncio.timeout(BOUND):
                    outcomes = await asyncio.gather(
                        upload(client, during),
                        execute(client, second),
                        client.action_cache.update(third, result),
                        return_exceptions=True,
                    )
                    uploads, executed, updated = outcomes
                    assert isinstance(uploads, list), uploads
                    assert {type(each) for each in uploads} == {OutOfSpace}, uploads
                    assert isinstance(executed, OutOfSpace | Unavailable), executed
                    assert "no space" in str(executed)
                    # a database that has its files already needs no inode
                    assert isinstance(updated, OutOfSpace) or kind == "no-inodes", updated
                    assert await client.cas.find_missing(during) == set(during)
                    await check_readable(client, before)
                    assert await client.action_cache.get(first) is not None
                    assert (await execute(client, first)).cached_result
                assert temporary_files(disk) == []

                disk.free()
                assert await upload(client, during) == [None, None]
                assert (await execute(client, second)).result.exit_code == 0
                await client.action_cache.update(third, result)
                assert server.process.poll() is None
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    with serving(disk) as server:
        async with client_of(server.url, patience=0) as client:
            await check_readable(client, before | during)
            for action in (first, second, third):
                assert await client.action_cache.get(action) is not None
            assert temporary_files(disk) == []


async def test_a_disk_that_fills_up_again_and_again(disk: SmallDisk) -> None:
    """What was acknowledged in between is there, what was refused is not, nothing else is."""
    kept: dict[Digest, bytes] = {}
    with serving(disk) as server:
        async with client_of(server.url, patience=0) as client:
            for number in range(3):
                async with asyncio.timeout(BOUND):
                    while True:
                        contents = blobs(f"round {number} {len(kept)}")
                        outcomes = await upload(client, contents)
                        for item, outcome in zip(contents.items(), outcomes, strict=True):
                            if outcome is None:
                                kept.update([item])
                            else:
                                assert isinstance(outcome, OutOfSpace), outcome
                        if any(outcomes):
                            break
                assert temporary_files(disk) == []
                await check_readable(client, kept)
                for path in (disk.seen / "data" / "blobs" / "cas").rglob("*_*"):
                    if path.is_file() and path.stat().st_size > 10_000:
                        path.unlink()
                        kept = {d: data for d, data in kept.items() if d.hash not in path.name}
