"""What a worker keeps on its disk is damaged or lost: it is fetched again, never used."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from rounds import chance as seeded_chance
from rounds import rounds
from running import RunningServer, running_server, running_worker

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.worker.world import Client, Inputs, client_of

SAMPLE = 12
pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]
SCRIPT = "find . -type f ! -name out | sort | xargs sha256sum > out; true {number}"


@pytest.fixture
def chance() -> random.Random:
    return seeded_chance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    server: RunningServer
    worker: Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        command = "scheduler run"
        server = stack.enter_context(running_server(tmp_path / "data", command=command))
        stack.enter_context(running_worker("worker-1", server.url, tmp_path, 0))
        yield Site(server=server, worker=tmp_path / "worker-1")


def flip(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(at := chance.randrange(path.stat().st_size))
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def replace(path: Path, chance: random.Random) -> None:
    other = path.with_name("other")
    other.write_bytes(chance.randbytes(path.stat().st_size))
    shutil.copymode(path, other)
    other.rename(path)


DAMAGES: list[Callable[[Path, random.Random], None]] = [flip, cut, delete, replace]


async def outcome(client: Client, root: Digest, number: int) -> bytes:
    """The output of an action that lists all inputs with their hashes."""
    script = SCRIPT.format(number=number)
    command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
    response = await client.execute(await client.put_action(command, root))
    assert response.status.code == 0, response.status
    assert response.result.exit_code == 0
    assert not response.cached_result
    return await client.read(response.result.output_files[0].digest)


@pytest.mark.parametrize("where", ["cache/files", "trees"])
async def test_damage_between_actions(where: str, site: Site, chance: random.Random) -> None:
    """In the blobs, and in the directories that are kept for the next action."""
    contents = {f"d{n % 3}/sub/f{n}": chance.randbytes(2000 + n) for n in range(60)}
    inputs = Inputs(files=contents, executables={"tool": b"#!/bin/sh\n"})
    async with client_of(site.server.url) as client:
        root = await client.put_inputs(inputs)
        expected = await outcome(client, root, 0)
        assert await outcome(client, root, 1) == expected
        for number in range(2, 2 + rounds(SAMPLE)):
            files = [path for path in (site.worker / where).rglob("*") if path.is_file()]
            assert files
            for path in chance.sample(files, chance.randrange(1, 4)):
                how = chance.choice(DAMAGES)
                print(number, how.__name__, path)
                how(path, chance)
            assert await outcome(client, root, number) == expected


async def test_everything_that_is_kept_is_lost(site: Site, chance: random.Random) -> None:
    """As when somebody clears a cache directory."""
    inputs = Inputs(files={f"d/f{n}": chance.randbytes(500) for n in range(30)})
    async with client_of(site.server.url) as client:
        root = await client.put_inputs(inputs)
        expected = await outcome(client, root, 0)
        for number, lost in enumerate(["cache/files", "trees"], 1):
            shutil.rmtree(site.worker / lost)
            (site.worker / lost).mkdir()
            assert await outcome(client, root, number) == expected
