"""`distbuild operations` against a real server, and what it shows of others'."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2
from running import RunningServer, running_server

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from tests.cli.commands import Gate, Operator, executing, failed
from tests.worker.world import client_of

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "data", "--workers", "1", "--sandbox", "none") as running:
        yield running


async def operations(operator: Operator, count: int, *options: str) -> list[str]:
    """The operations' names, once there are so many."""
    async with asyncio.timeout(60):
        while True:
            names = [each["name"] for each in await operator.reads("operations", "list", *options)]
            if len(names) == count:
                return names


async def test_from_queued_to_done(server: RunningServer, tmp_path: Path) -> None:
    operator = Operator(server.url)
    first, second = Gate(tmp_path / "first"), Gate(tmp_path / "second")
    async with client_of(server.url) as client:
        async with executing(client, first.script, target="//a") as one:
            (running,) = await operations(operator, 1)
            async with executing(client, second.script, target="//b") as two:
                assert (await operations(operator, 2))[0] == running
                queued = (await operations(operator, 2))[1]
                await _until_stage(operator, running, "executing")
                header, *rows = await operator.sees("operations", "list")
                assert header.split() == ["NAME", "STAGE", "ASKED", "WORKER", "RESULT", "TARGET"]
                assert [row.split()[:2] for row in rows] == [
                    [running, "executing"],
                    [queued, "queued"],
                ]
                assert "worker-1" in rows[0] and "worker-1" not in rows[1]
                assert rows[1].endswith("Genrule //b")
                first.open()
                assert (await one).result.exit_code == 0
                await _until_stage(operator, queued, "executing")
                assert await operations(operator, 1, "--running") == [queued]
                assert await operations(operator, 1, "--done") == [running]
                assert await operations(operator, 1, "--limit", "1") == [queued]
                assert await operations(operator, 0, "--instance", "other") == []
                second.open()
                await two
        shown = await operator.sees("operations", "show", running)
        pairs = [line.split("  ", 1) for line in shown]
        lines = {name.strip(): value.strip() for name, value in pairs}
        assert (lines["stage"], lines["status"]) == ("completed", "OK")
        assert (lines["target"], lines["worker"]) == ("Genrule //a", "worker-1")
        assert lines["stdout"] == str(Digest.of(b"out\n", DigestFunction.SHA256))
        assert {"waited", "inputs", "ran", "outputs"} <= lines.keys()
        value = await operator.reads("operations", "show", running)
        assert value["asked_at"] <= value["started_at"] <= value["completed_at"]
        assert (value["exit_code"], value["cached"]) == (0, False)
        assert value["status"] == {"code": "OK", "message": ""}
        assert value["invocation"] == "build-7"


async def test_a_failed_command_and_a_cached_result(server: RunningServer) -> None:
    operator = Operator(server.url)
    async with client_of(server.url) as client:
        assert (await client.run("echo oops >&2; exit 3")).result.exit_code == 3
        await client.run("true")
        assert (await client.run("true")).cached_result
    failing, first, cached = await operator.reads("operations", "list")
    assert (failing["exit_code"], failing["status"]["code"]) == (3, "OK")
    assert failing["stderr_digest"] == str(Digest.of(b"oops\n", DigestFunction.SHA256))
    assert (first["cached"], cached["cached"]) == (False, True)
    results = [line.split("worker-1")[1].split("  ")[1] for line in
               (await operator.sees("operations", "list"))[1:]]  # fmt: skip
    assert results == ["exit 3", "exit 0", "exit 0, cached"]


async def test_cancel(server: RunningServer, tmp_path: Path) -> None:
    operator, gate = Operator(server.url), Gate(tmp_path / "gate")
    async with client_of(server.url) as client:
        async with executing(client, gate.script) as running:
            (name,) = await operations(operator, 1)
            done = await operator.types("operations", "cancel", "operations/none", name)
            assert (done.returncode, done.stdout) == (1, f"{name} cancelled\n")
            assert "operations/none" in done.stderr and done.stderr.count("\n") == 1
            assert (await running).status.code == code_pb2.CANCELLED
        assert await operator.sees("operations", "cancel", name) == [f"{name} done already"]
        shown = await operator.reads("operations", "show", name)
        assert (shown["stage"], shown["status"]["code"]) == ("completed", "CANCELLED")
        assert shown["exit_code"] is None
        # the worker is free again
        assert (await client.run("true")).result.exit_code == 0


async def test_unknown_and_wrong(server: RunningServer) -> None:
    operator = Operator(server.url)
    failed(await operator.types("operations", "show", "operations/x"), "operations/x")
    failed(await operator.types("operations", "cancel", "operations/x"), "operations/x")
    assert await operator.sees("operations", "list") == [
        "NAME  STAGE  ASKED  WORKER  RESULT  TARGET"
    ]
    done = await operator.types("operations", "list", "--done", "--running")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


async def test_operations_survive_a_restart(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "1", "--sandbox", "none") as server:
        async with client_of(server.url) as client:
            await client.run("exit 5")
        (before,) = await Operator(server.url).reads("operations", "list")
    with running_server(tmp_path / "data", "--workers", "0") as server:
        assert await Operator(server.url).reads("operations", "list") == [before]


async def _until_stage(operator: Operator, name: str, stage: str) -> None:
    async with asyncio.timeout(60):
        while (await operator.reads("operations", "show", name))["stage"] != stage:
            await asyncio.sleep(0.05)
