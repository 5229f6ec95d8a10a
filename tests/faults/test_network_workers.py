"""A worker and a bad network: it comes back by itself, and an action's result is never lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from rounds import chance as seeded_chance
from rounds import rounds
from running import RunningServer, running_server, running_worker
from toxiproxy import Proxy, toxiproxy

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.interop.programs import Tools, default_directory
from tests.worker.world import Client, Inputs, client_of

SAMPLE = 3
LOST_AFTER = 25.0
"""Seconds of silence after which the scheduler gives a worker's action to another one."""
pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server, a worker `far` behind a network that can be made bad, and room for others."""

    server: RunningServer
    proxy: Proxy
    stack: ExitStack
    directory: Path

    def add_worker(self, name: str) -> None:
        self.stack.enter_context(running_worker(name, self.server.url, self.directory, 0))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path / "data", command="scheduler run"))
        program = Tools(directory=default_directory()).toxiproxy
        network = stack.enter_context(toxiproxy(program))
        proxy = network.proxy("worker", server.target)
        stack.enter_context(running_worker("far", proxy.url, tmp_path, 0))
        yield Site(server=server, proxy=proxy, stack=stack, directory=tmp_path)
        proxy.heal()  # or the worker could not say goodbye


@pytest.fixture
def chance() -> random.Random:
    return seeded_chance()


async def prepare(client: Client, script: str, chance: random.Random) -> Digest:
    """An action with some input, that prints a number of its run's own."""
    root = await client.put_inputs(Inputs(files={"in": chance.randbytes(2_000_000)}))
    script = f"{script}; cat in in > out; tr -d - < /proc/sys/kernel/random/uuid"
    command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
    return await client.put_action(command, root)


def check(response: re_pb.ExecuteResponse, worker: str) -> None:
    assert response.status.code == 0, response.status
    assert response.result.exit_code == 0
    assert response.result.output_files[0].digest.size_bytes == 4_000_000
    assert response.result.execution_metadata.worker == worker


async def test_cut_off_at_random_points(site: Site, chance: random.Random) -> None:
    """For less than the scheduler's patience: the same worker delivers."""
    async with client_of(site.server.url) as client:
        for number in range(rounds(SAMPLE)):
            action = await prepare(client, f"sleep 0.5; true {number}", chance)
            site.proxy.poison("bandwidth", "downstream", rate=8000)
            site.proxy.poison("latency", "upstream", latency=20)
            executing = asyncio.ensure_future(client.execute(action))
            await asyncio.sleep(chance.random() * 1.2)
            if chance.random() < 0.5:
                for stream in ("upstream", "downstream"):
                    site.proxy.poison("timeout", stream, timeout=0)
            else:
                site.proxy.cut()
            await asyncio.sleep(chance.random() * 3)
            site.proxy.heal()
            async with asyncio.timeout(120):
                check(await executing, "far")


async def test_cut_off_for_long(site: Site, chance: random.Random) -> None:
    """The action runs again elsewhere; the late result of the first run changes nothing."""
    async with client_of(site.server.url) as client:
        action = await prepare(client, "sleep 5", chance)
        executing = asyncio.ensure_future(client.execute(action))
        await asyncio.sleep(2)
        for stream in ("upstream", "downstream"):
            site.proxy.poison("timeout", stream, timeout=0)
        site.add_worker("near")
        async with asyncio.timeout(LOST_AFTER + 40):
            response = await executing
        check(response, "near")
        printed = await client.stdout(response)
        site.proxy.heal()
        # back by itself: with the other one busy, the next action is its own
        async with asyncio.timeout(60):
            while True:
                script = f"sleep 1; true {chance.random()}"
                digests = [await prepare(client, script, chance) for _ in range(2)]
                both = await asyncio.gather(*map(client.execute, digests))
                workers = {each.result.execution_metadata.worker for each in both}
                if workers == {"near", "far"}:
                    break
        again = await client.execute(action)
        assert again.cached_result
        assert await client.stdout(again) == printed


async def test_nobody_else_is_there(site: Site, chance: random.Random) -> None:
    """The action waits for its worker and gets its result, without a second run."""
    async with client_of(site.server.url) as client:
        action = await prepare(client, "sleep 3", chance)
        executing = asyncio.ensure_future(client.execute(action))
        await asyncio.sleep(1.5)
        site.proxy.cut()
        await asyncio.sleep(4)
        assert not executing.done()
        site.proxy.heal()
        async with asyncio.timeout(30):
            response = await executing
        check(response, "far")
        metadata = response.result.execution_metadata
        started = metadata.execution_start_timestamp.ToNanoseconds()
        queued = metadata.queued_timestamp.ToNanoseconds()
        assert started - queued < 1.5e9, "it was run a second time"
