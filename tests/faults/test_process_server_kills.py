"""kill -9 of `distbuild serve` under load: what it acknowledged is there when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2
from killing import WAYS, kill
from leftovers import files, half_born, mounts, nothing_left, processes
from rounds import chance as seeded_chance
from rounds import rounds
from running import RunningServer, running_server

from remote_apis.client.blobs import BlobSource
from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.settings import ClientLimits, RetryPolicy
from remote_apis.digest import Digest
from remote_apis.errors import Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from tests.worker.world import SHA256, Client, Inputs, client_of

SAMPLE = 6
SIZES = (10, 3_000, 60_000, 2_500_000)
ONCE = ClientLimits(retry=RetryPolicy(attempts=1))
pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]


def content(name: str, size: int) -> bytes:
    """The same bytes for the same name, so that they need not be kept."""
    return random.Random(name).randbytes(size)


@dataclass
class Promises:
    """What the server has acknowledged, and what it may have got in part."""

    blobs: dict[Digest, str] = field(default_factory=dict)
    begun: dict[Digest, str] = field(default_factory=dict)
    results: dict[Digest, re_pb.ActionResult] = field(default_factory=dict)
    operations: dict[str, bytes] = field(default_factory=dict)
    trees_were_killed: bool = False


class Load:
    """Clients that upload, write results and run actions until the server is gone."""

    def __init__(
        self, client: Client, chance: random.Random, promises: Promises, life: int
    ) -> None:
        self._client = client
        self._execution = re_grpc.ExecutionStub(client.channel)
        self._chance = chance
        self._promises = promises
        self._names = (f"{life}-{number}" for number in itertools.count())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for work in (self._upload, self._upload, self._write_result, *[self._execute] * 3):
                group.create_task(self._until_it_fails(work))

    async def _until_it_fails(self, work: Callable[[], Awaitable[object]]) -> None:
        with contextlib.suppress(Unavailable):
            while True:
                with rpc_errors("working"):
                    await work()

    async def _upload(self) -> Digest:
        name, size = next(self._names), self._chance.choice(SIZES)
        data = content(name, size)
        digest = Digest.of(data, SHA256)
        self._promises.begun[digest] = name
        await self._client.cas.upload([BlobSource(digest, data)])
        self._promises.blobs[digest] = name
        return digest

    async def _write_result(self) -> None:
        output = await self._upload()
        result = re_pb.ActionResult(
            output_files=[re_pb.OutputFile(path="out", digest=output.to_message())]
        )
        command = re_pb.Command(arguments=[next(self._names)])
        action = await self._client.put_action(command, await self._client.put_inputs(Inputs()))
        await self._client.action_cache.update(action, result)
        self._promises.results[action] = result

    async def _execute(self) -> None:
        word = next(self._names).encode()
        root = await self._client.put_inputs(Inputs(files={"in": word}))
        script = f"sleep {self._chance.random() / 5:.3f}; cat in in > out"
        command = re_pb.Command(arguments=["/bin/sh", "-c", script], output_paths=["out"])
        digest = await self._client.put_action(command, root)
        request = re_pb.ExecuteRequest(action_digest=digest.to_message())
        async for operation in self._execution.Execute(request):
            self._promises.operations[operation.name] = word


async def check_blobs(client: Client, promises: Promises, recent: set[Digest]) -> None:
    """All acknowledged ones are there, and what is there is whole."""
    assert not await client.cas.find_missing(promises.blobs)
    there = promises.begun.keys() - await client.cas.find_missing(promises.begun)
    for digest in there & recent:
        assert await client.cas.read(digest) == content(promises.begun[digest], digest.size)


async def check_results(client: Client, promises: Promises) -> None:
    for action, result in promises.results.items():
        assert await client.action_cache.get(action) == result


async def check_operations(client: Client, promises: Promises) -> None:
    """All end, and as they should; what has ended need not be asked for again."""

    async def check(name: str, word: bytes) -> None:
        response = await client.execution.wait(name, timeout=90)
        assert response.status.code == 0, response.status
        if response.result.exit_code == 128 + signal.SIGKILL and promises.trees_were_killed:
            return  # of the tree the action was the first, and its worker could still say so
        expected = Digest.of(word * 2, SHA256).to_message()
        assert response.result.output_files[0].digest == expected
        assert await client.read(expected) == word * 2

    async with asyncio.TaskGroup() as group:
        for name, word in promises.operations.items():
            group.create_task(check(name, word))
    promises.operations.clear()


async def one_life(
    server: RunningServer, chance: random.Random, promises: Promises, life: int
) -> None:
    """Check what earlier lives promised, then promise more until killed."""
    async with client_of(server.url) as client:
        await check_blobs(client, promises, set(promises.begun))
        await check_results(client, promises)
        # Nothing of the earlier lives is kept that takes long to check.
        promises.begun.clear()
    async with client_of(server.url, limits=ONCE) as client:
        load = asyncio.create_task(Load(client, chance, promises, life).run())
        await asyncio.sleep(chance.random() ** 2 * 1.5)
        way = chance.choice(WAYS)
        print(f"life {life}: {way}", flush=True)
        promises.trees_were_killed |= way == "the whole tree"
        await asyncio.to_thread(kill, server.process, way, chance)
        await load
    if way != WAYS[0] or chance.random() < 0.1:
        # The workers of a server that was killed alone wait for another one, though not for long.
        allowed = half_born if way == "the whole tree" else nobody
        await nothing_left(
            lambda: sorted(set(processes(server.data_dir)) - set(allowed(server.data_dir))),
            lambda: mounts(server.data_dir),
            seconds=60,
        )


def nobody(mark: Path) -> list[str]:
    return []


async def test_a_server_killed_under_load(tmp_path: Path) -> None:
    chance, promises = seeded_chance(), Promises()
    data_dir, listen = tmp_path / "data", "127.0.0.1:0"
    lives = rounds(SAMPLE)
    for life in range(lives):
        with running_server(data_dir, "--workers", "2", listen=listen) as server:
            listen = server.target
            await nothing_left(lambda: half_born(data_dir))
            if life % 2:
                async with client_of(server.url) as client:
                    await check_operations(client, promises)
            await one_life(server, chance, promises, life)
    with running_server(data_dir, "--workers", "2", listen=listen) as server:
        async with client_of(server.url) as client:
            await check_blobs(client, promises, set(promises.begun))
            await check_results(client, promises)
            await check_operations(client, promises)
        assert server.stop() == 0
    assert not files(data_dir)
    await nothing_left(lambda: processes(data_dir), lambda: mounts(data_dir))
    assert promises.blobs and promises.results


async def test_a_long_action_does_not_keep_the_next_server_from_starting(tmp_path: Path) -> None:
    """The worker that runs it has the directory that the next one needs."""
    data_dir, mark = tmp_path / "data", f"sleep 300 # {tmp_path}"
    with running_server(data_dir, "--workers", "1") as server:
        async with client_of(server.url) as client:
            name = await begin(client, mark)
            await until_running(mark)
        server.process.kill()
        server.process.wait(30)
    with running_server(data_dir, "--workers", "1") as server:
        async with client_of(server.url) as client:
            await until_running(mark)
            operations = operations_pb2_grpc.OperationsStub(client.channel)
            await operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))
            response = await client.execution.wait(name, timeout=30)
            assert response.status.code == code_pb2.CANCELLED
        assert server.stop() == 0
    await nothing_left(lambda: processes(data_dir), lambda: processes(mark))


async def begin(client: Client, script: str) -> str:
    command = re_pb.Command(arguments=["/bin/sh", "-c", script])
    digest = await client.put_action(command, await client.put_inputs(Inputs()))
    request = re_pb.ExecuteRequest(action_digest=digest.to_message())
    call = re_grpc.ExecutionStub(client.channel).Execute(request)
    name: str = (await anext(aiter(call))).name
    return name


async def until_running(mark: str) -> None:
    async with asyncio.timeout(60):
        while not processes(mark):
            await asyncio.sleep(0.1)
