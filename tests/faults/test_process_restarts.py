"""A server that is killed and started again leaves actions to the workers that are at them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.rpc import code_pb2
from rounds import chance as seeded_chance
from rounds import rounds
from running import running_server, running_worker

from tests.faults.test_process_server_kills import begin
from tests.worker.world import client_of

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]

ACTIONS = 3
LEASE_IS_KEPT_AFTER = 2.5
"""Seconds, of which the journal takes one: docs/scheduler.md, durability."""


async def test_workers_go_on_with_what_they_run(tmp_path: Path) -> None:
    """Their idle slots are back first, and must not get the same once more."""
    chance, log = seeded_chance(), tmp_path / "log"
    data_dir, listen = tmp_path / "data", "127.0.0.1:0"
    with ExitStack() as workers:
        for life in range(rounds(2)):
            log.write_text("")
            naps = [LEASE_IS_KEPT_AFTER + chance.uniform(0, 8) for _ in range(ACTIONS)]
            with running_server(data_dir, listen=listen, command="scheduler run") as server:
                listen = server.target
                for number in range(2 if life == 0 else 0):
                    worker = running_worker(
                        f"w{number}", server.url, tmp_path, 0, slots=4, options=["--sandbox=none"]
                    )
                    workers.enter_context(worker)
                async with client_of(server.url) as client:
                    names = [
                        await begin(client, f"echo {n} >> {log}; sleep {nap:.3f}; echo {n}")
                        for n, nap in enumerate(naps)
                    ]
                    async with asyncio.timeout(30):
                        while len(log.read_text().split()) < ACTIONS:
                            await asyncio.sleep(0.05)
                await asyncio.sleep(LEASE_IS_KEPT_AFTER + chance.random())
                server.process.kill()
                server.process.wait(30)
            await asyncio.sleep(chance.random() * 3)
            with running_server(data_dir, listen=listen, command="scheduler run") as server:
                async with client_of(server.url) as client:
                    for n, name in enumerate(names):
                        response = await client.execution.wait(name, timeout=60)
                        assert response.status.code == code_pb2.OK, response.status
                        assert await client.stdout(response) == f"{n}\n"
            ran = Counter(log.read_text().split())
            assert ran == Counter(str(n) for n in range(ACTIONS)), ran
