"""The server's clock on the wall jumps by hours, either way: every operation ends, and in time.

The simulation of the scheduler has more of this; here are the journal, the wire and real workers.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from rounds import chance as seeded_chance
from rounds import rounds

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.memory import MemoryBlobStore
from server.scheduler.ports import MemoryRepository
from tests.rpc.execution_server import (
    ExecutionServer,
    ScriptedWorker,
    execution_server,
    metadata_of,
    response_of,
)
from tests.worker.world import open_world, serving, worker_config

HOUR_NS = 3_600 * 10**9
pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]


class JumpingClock:
    """The machine's clock, as somebody sets it while the server runs."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._offset = 0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> int:
        return time.time_ns() + self._offset

    def jump(self) -> None:
        """To some time within two days of the right one, as often past as future."""
        self._offset = int(self._chance.uniform(-48, 48) * HOUR_NS)

    def go_back(self) -> None:
        self._offset -= int(self._chance.uniform(1, 48) * HOUR_NS)

    def maybe_jump(self) -> None:
        if self._chance.random() < 0.5:
            self.jump()


async def one_round(server: ExecutionServer, clock: JumpingClock, number: int) -> None:
    digest = await server.put_action(action=re_pb.Action(salt=b"%d" % number))
    call = server.execute(digest)
    seen = [await anext(aiter(call))]
    clock.maybe_jump()
    worker = ScriptedWorker(server)
    work = await asyncio.wait_for(worker.take(), 30)
    clock.maybe_jump()
    told = await worker.running(work)
    # Still its lease.
    assert told.desired_state.WhichOneof("worker_state") is None
    clock.maybe_jump()
    await worker.completed(work)
    async with asyncio.timeout(30):
        seen += [operation async for operation in call]
    assert response_of(seen[-1]).status.code == 0
    stages = [metadata_of(operation).stage for operation in seen]
    assert stages == sorted(stages)


async def test_jumps_between_all_that_happens_to_an_operation() -> None:
    clock = JumpingClock(seeded_chance())
    async with execution_server(clock=clock) as server:
        for number in range(rounds(30)):
            await one_round(server, clock, number)


async def put(server: ExecutionServer, salt: str) -> Digest:
    return await server.put_action(action=re_pb.Action(salt=salt.encode()))


async def test_a_restart_after_the_clock_went_back_loses_nothing() -> None:
    clock = JumpingClock(seeded_chance())
    repository, store = MemoryRepository(), MemoryBlobStore()
    for number in range(rounds(10)):
        async with execution_server(clock=clock, repository=repository, store=store) as server:
            finished = await anext(aiter(server.execute(await put(server, f"{number} finished"))))
            work = await ScriptedWorker(server).take()
            said = re_pb.ExecuteResponse(result=re_pb.ActionResult(exit_code=number % 100 + 1))
            await ScriptedWorker(server).completed(work, said)
            await outcome_of(server, finished.name)
            open_one = await anext(aiter(server.execute(await put(server, f"{number} open"))))
        clock.go_back()
        async with execution_server(clock=clock, repository=repository, store=store) as server:
            response = await outcome_of(server, finished.name)
            assert response.result.exit_code == number % 100 + 1
            await asyncio.wait_for(ScriptedWorker(server).serve(), 30)
            assert (await outcome_of(server, open_one.name)).status.code == 0


async def outcome_of(server: ExecutionServer, name: str) -> re_pb.ExecuteResponse:
    call = server.execution.WaitExecution(re_pb.WaitExecutionRequest(name=name))
    async with asyncio.timeout(30):
        return response_of([operation async for operation in call][-1])


async def test_a_real_worker_of_a_server_whose_clock_jumps(tmp_path: Path) -> None:
    clock = JumpingClock(seeded_chance())
    async with (
        open_world(clock=clock) as world,
        serving(worker_config(world.url, tmp_path, sandbox="none")),
    ):
        stop = asyncio.Event()

        async def jump_all_the_time() -> None:
            while not stop.is_set():
                clock.jump()
                await asyncio.sleep(0.02)

        jumping = asyncio.create_task(jump_all_the_time())
        try:
            for number in range(rounds(15)):
                # Neither is the worker told to be silent for hours, nor is it thought to be lost.
                async with asyncio.timeout(40):
                    response = await world.run(f"sleep 0.1; echo {number}")
                assert response.status.code == 0, response.status
                assert await world.stdout(response) == f"{number}\n"
        finally:
            stop.set()
            await jumping
