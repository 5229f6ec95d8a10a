"""A client and a bad network: calls end, uploads are whole or not there, operations are found."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from leftovers import files, nothing_left
from rounds import chance as seeded_chance
from rounds import kinds, rounds
from running import RunningServer, running_server
from toxiproxy import Proxy, toxiproxy

from remote_apis.client.blobs import BlobSource
from remote_apis.client.settings import ClientLimits, RetryPolicy
from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from tests.interop.programs import Tools, default_directory
from tests.worker.world import SHA256, Client, client_of

SAMPLE = 3
CALL = 3.0
"""Seconds that a call of these clients may take; a transfer gets more for its size."""
RETRY = RetryPolicy(attempts=8, first_delay=0.1, max_delay=1.0)
pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]
LIMITS = ClientLimits(call_timeout=CALL)
PATIENT = ClientLimits(call_timeout=20.0, retry=RETRY)
SLOWNESS = {
    "slicer": ("slicer", {"average_size": 500, "size_variation": 300, "delay": 20}),
    "latency": ("latency", {"latency": 150, "jitter": 50}),
    "bandwidth": ("bandwidth", {"rate": 4000}),
    "slow-close": ("slow_close", {"delay": 1000}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server with one worker, and a way to it that can be made bad."""

    server: RunningServer
    proxy: Proxy


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with (
        running_server(tmp_path / "data", "--workers", "1", "--sandbox", "none") as server,
        toxiproxy(Tools(directory=default_directory()).toxiproxy) as network,
    ):
        yield Site(server=server, proxy=network.proxy("client", server.target))


@pytest.fixture
def chance() -> random.Random:
    return seeded_chance()


@asynccontextmanager
async def two_clients(site: Site, limits: ClientLimits) -> AsyncIterator[tuple[Client, Client]]:
    """One by the bad way, and one that sees what is so."""
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(client_of(site.proxy.url, limits=limits, patience=10)),
            await stack.enter_async_context(client_of(site.server.url)),
        )


def make_blobs(chance: random.Random, large: int = 3 << 20) -> dict[Digest, bytes]:
    contents = [chance.randbytes(size) for size in (10, 1000, 70_000, large)]
    return {Digest.of(data, SHA256): data for data in contents}


async def upload(client: Client, contents: dict[Digest, bytes]) -> None:
    await client.cas.upload_missing(BlobSource(*item) for item in contents.items())


async def check_whole(client: Client, contents: dict[Digest, bytes]) -> None:
    for digest, data in contents.items():
        assert await client.cas.read(digest) == data


async def prepare(client: Client, script: str) -> Digest:
    """Upload an action that runs a script outside of any sandbox."""
    root = await client.put(re_pb.Directory().SerializeToString())
    command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
    return await client.put_action(command, root)


@pytest.mark.parametrize("how", kinds(2, list(SLOWNESS)))
async def test_a_slow_network_is_only_slow(how: str, site: Site, chance: random.Random) -> None:
    kind, attributes = SLOWNESS[how]
    for stream in ("upstream", "downstream"):
        site.proxy.poison(kind, stream, **attributes)
    contents = make_blobs(chance)
    async with two_clients(site, PATIENT) as (client, near), asyncio.timeout(60):
        await upload(client, contents)
        await check_whole(near, contents)
        await check_whole(client, contents)
        response = await client.execute(await prepare(client, f"echo {how} > out"))
        assert response.status.code == 0 and response.result.exit_code == 0
        assert await client.read(response.result.output_files[0].digest) == f"{how}\n".encode()


@pytest.mark.parametrize("how", kinds(2, ["black-hole", "reset", "cut"]))
async def test_a_network_that_is_gone(how: str, site: Site, chance: random.Random) -> None:
    """Every call ends as Unavailable in its time, and the same client is well afterwards."""
    contents = make_blobs(chance)
    async with two_clients(site, LIMITS) as (client, near):
        action = await prepare(client, "echo > out")
        await upload(client, contents)
        if how == "cut":
            site.proxy.cut()
        for stream in ("upstream", "downstream") if how != "cut" else ():
            site.proxy.poison("timeout" if how == "black-hole" else "reset_peer", stream, timeout=0)
        began = time.monotonic()
        calls = [
            client.cas.find_missing(contents),
            upload(client, make_blobs(chance)),
            check_whole(client, contents),
            client.action_cache.get(action),
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in outcomes} == {Unavailable}, outcomes
        # 3 MiB more, at the slowest rate that a transfer may have
        assert time.monotonic() - began < 3 * (CALL + 12) + 10
        site.proxy.heal()
        async with asyncio.timeout(30):
            await until_available(client)
            await check_whole(client, contents)
            assert (await client.execute(action)).result.exit_code == 0
        await check_whole(near, contents)


async def until_available(client: Client) -> None:
    """A connection is made anew within a second or two, by itself."""
    while True:
        try:
            await client.cas.find_missing([Digest.of(b"x", SHA256)])
            return
        except Unavailable:
            await asyncio.sleep(0.1)


async def test_uploads_cut_at_random_points(site: Site, chance: random.Random) -> None:
    """A blob is whole or not there; with retries it gets there; nothing temporary stays."""
    site.proxy.poison("bandwidth", "upstream", rate=8000)
    async with two_clients(site, PATIENT) as (client, near):
        for _ in range(rounds(SAMPLE)):
            contents = make_blobs(chance, chance.randrange(2 << 20, 6 << 20))
            uploading = asyncio.ensure_future(upload(client, contents))
            for _ in range(chance.randrange(1, 3)):
                await asyncio.sleep(chance.random() * 0.5)
                site.proxy.cut()
                missing = await near.cas.find_missing(contents)
                await check_whole(near, {d: b for d, b in contents.items() if d not in missing})
                await asyncio.sleep(chance.random() * 0.3)
                site.proxy.heal()
                site.proxy.poison("bandwidth", "upstream", rate=8000)
            async with asyncio.timeout(60):
                await uploading
            await check_whole(near, contents)
        await nothing_left(lambda: files(site.server.data_dir, ["blobs/tmp"]))


async def test_streams_of_execute_cut_at_random_points(
    site: Site, chance: random.Random, tmp_path: Path
) -> None:
    """The operation goes on, its client finds it again, and the action runs once."""
    async with two_clients(site, PATIENT) as (client, near):
        for number in range(rounds(SAMPLE)):
            counter = tmp_path / f"runs-{number}"
            script = f"echo run >> {counter}; sleep 0.7; echo {number} > out"
            action = await prepare(near, script)
            executing = asyncio.ensure_future(client.execute(action))
            await asyncio.sleep(chance.random())
            if chance.random() < 0.3:
                site.proxy.poison("timeout", timeout=0)
                await asyncio.sleep(chance.random())
            site.proxy.cut()
            await asyncio.sleep(chance.random() * 1.5)
            site.proxy.heal()
            async with asyncio.timeout(60):
                response = await executing
            assert response.status.code == 0, response.status
            output = response.result.output_files[0].digest
            assert await near.read(output) == f"{number}\n".encode()
            assert counter.read_text() == "run\n"


async def test_a_client_that_never_comes_back(site: Site, chance: random.Random) -> None:
    """Half an upload and a stream of Execute, then silence: nothing of it is seen."""
    async with two_clients(site, LIMITS) as (client, near):
        contents = make_blobs(chance)
        await upload(client, contents)
        site.proxy.poison("limit_data", "upstream", bytes=1_500_000)
        more = make_blobs(chance)
        with pytest.raises(DistbuildError):
            await upload(client, more)
        largest = max(more, key=lambda digest: digest.size)
        assert await near.cas.find_missing([largest]) == {largest}
        await check_whole(near, contents)
