"""`distbuild workers` against a real server, through restarts of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import RunningServer, running_server, running_worker

from tests.cli.commands import Gate, Operator, distbuild, executing, failed
from tests.worker.world import client_of

pytestmark = pytest.mark.timeout(240)
SERVE = ("--workers", "2", "--sandbox", "none")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "data", *SERVE) as running:
        yield running


async def runner_of(operator: Operator) -> str:
    """The name of the one worker that runs something, when there is one."""
    async with asyncio.timeout(60):
        while True:
            states = await operator.states()
            busy = [name for name, state in states.items() if state == "running"]
            if busy:
                (name,) = busy
                return name


async def test_list_shows_workers_and_what_they_run(server: RunningServer, tmp_path: Path) -> None:
    operator, gate = Operator(server.url), Gate(tmp_path / "gate")
    header, *idle = await operator.sees("workers", "list")
    assert header.split() == ["NAME", "STATE", "SEEN", "RUNS", "FOR", "PLATFORM"]
    assert [line.split()[:2] for line in idle] == [["worker-1", "idle"], ["worker-2", "idle"]]
    assert all("OSFamily=linux" in line for line in idle)
    async with client_of(server.url) as client, executing(client, gate.script) as task:
        name = await runner_of(operator)
        (line,) = [x for x in await operator.sees("workers", "list") if x.startswith(name)]
        assert "running" in line and "Genrule //some:target" in line
        (worker,) = [w for w in await operator.reads("workers", "list") if w["name"] == name]
        (operation,) = await operator.reads("operations", "list")
        lease = worker["lease"]
        assert lease["operations"] == [operation["name"]]
        assert lease["action_digest"] == operation["action_digest"]
        assert lease["label"] == "Genrule //some:target"
        assert operation["asked_at"] <= lease["since"] <= worker["last_seen"]
        assert {"name": "OSFamily", "value": "linux"} in worker["platform"]
        gate.open()
        await task
    assert await operator.states() == {"worker-1": "idle", "worker-2": "idle"}


async def test_a_drained_worker_finishes_and_gets_nothing_more(
    server: RunningServer, tmp_path: Path
) -> None:
    operator, gate = Operator(server.url), Gate(tmp_path / "gate")
    async with client_of(server.url) as client, executing(client, gate.script) as task:
        name = await runner_of(operator)
        (line,) = await operator.sees("workers", "drain", name)
        assert line == f"{name} draining: runs Genrule //some:target"
        waiting = asyncio.create_task(operator.sees("workers", "drain", name, "--wait"))
        await asyncio.wait([waiting], timeout=1)
        assert not waiting.done()
        gate.open()
        assert (await task).result.exit_code == 0
        assert (await waiting)[-1] == f"{name} drained"
        for number in range(4):
            response = await client.run(f"echo {number}")
            assert response.result.execution_metadata.worker != name
        rest = next(iter((await operator.states()).keys() - {name}))
        assert await operator.sees("workers", "drain", "--all", "--wait") == [
            f"{each} drained" for each in sorted((name, rest))
        ]
        async with executing(client, "echo hello") as queued:
            await asyncio.wait([queued], timeout=1)
            assert not queued.done()
            (state,) = await operator.reads("operations", "list", "--running")
            assert state["stage"] == "queued"
            resumed = await operator.sees("workers", "resume", name)
            assert resumed[0].startswith(f"{name} resumed, ")
            assert (await queued).result.execution_metadata.worker == name
    assert await operator.states() == {name: "idle", rest: "drained"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_drained_survives_a_restart_and_the_reconnection(
    number: signal.Signals, tmp_path: Path
) -> None:
    with running_server(tmp_path / "data", *SERVE) as server:
        assert await Operator(server.url).sees("workers", "drain", "worker-2") == [
            "worker-2 drained"
        ]
        server.stop(number)
    # without workers of its own: those that are drained are known all the same
    with running_server(tmp_path / "data", "--workers", "0") as server:
        operator = Operator(server.url)
        assert await operator.states() == {"worker-2": "away"}
        failed(await operator.types("workers", "drain", "worker-1"), "worker-1", "worker-2?")
    with running_server(tmp_path / "data", *SERVE) as server:
        operator = Operator(server.url)
        await operator.until(worker_1="idle", worker_2="drained")
        async with client_of(server.url) as client:
            for salt in range(3):
                response = await client.run(f"echo {salt}")
                assert response.result.execution_metadata.worker == "worker-1"
        assert await operator.sees("workers", "resume", "--all") == ["worker-2 resumed, idle"]
        server.stop(number)
    with running_server(tmp_path / "data", *SERVE) as server:
        await Operator(server.url).until(worker_1="idle", worker_2="idle")


async def test_waiting_outlasts_a_restart_of_the_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker, a process of its own, goes on with its action meanwhile."""
    monkeypatch.setenv("DISTBUILD_SANDBOX", "none")  # the gate is outside of any
    gate, command = Gate(tmp_path / "gate"), "scheduler run"
    with running_server(tmp_path / "data", command=command) as server:
        operator, listen = Operator(server.url), server.target
        with running_worker("w1", server.url, tmp_path, 0):
            async with client_of(server.url) as client, executing(client, gate.script) as task:
                assert await runner_of(operator) == "w1"
                waiting = asyncio.create_task(operator.sees("workers", "drain", "w1", "--wait"))
                await operator.until(w1="draining")
                server.stop(signal.SIGKILL)
                with running_server(tmp_path / "data", command=command, listen=listen):
                    await operator.until(w1="draining")
                    assert not waiting.done()
                    gate.open()
                    assert (await task).result.exit_code == 0
                    assert (await waiting)[-1] == "w1 drained"
                    assert await operator.states() == {"w1": "drained"}


async def test_a_machine_stands_for_its_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTBUILD_SANDBOX", "none")
    with running_server(tmp_path / "data", command="scheduler run") as server:
        operator = Operator(server.url)
        with running_worker("box", server.url, tmp_path, 0, slots=2):
            slots = {f"slot={number},worker=box": "idle" for number in (1, 2)}
            async with asyncio.timeout(60):
                while await operator.states() != slots:
                    await asyncio.sleep(0.1)
            lines = await operator.sees("workers", "drain", "box")
            assert lines == [f"{name} drained" for name in slots]


async def test_a_worker_that_is_away_can_be_resumed(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", *SERVE) as server:
        await Operator(server.url).sees("workers", "drain", "--all")
    with running_server(tmp_path / "data", "--workers", "0") as server:
        operator = Operator(server.url)
        assert await operator.sees("workers", "resume", "worker-1") == ["worker-1 resumed, away"]
        assert await operator.states() == {"worker-2": "away"}


async def test_waiting_ends_when_somebody_resumes(server: RunningServer, tmp_path: Path) -> None:
    operator, gate = Operator(server.url), Gate(tmp_path / "gate")
    async with client_of(server.url) as client, executing(client, gate.script) as task:
        name = await runner_of(operator)
        waiting = asyncio.create_task(operator.types("workers", "drain", "--wait", name))
        async with asyncio.timeout(60):
            while (await operator.states())[name] != "draining":
                await asyncio.sleep(0.05)
        await operator.sees("workers", "resume", name)
        done = await waiting
        assert done.returncode == 1
        assert "resumed meanwhile" in done.stderr
        gate.open()
        await task


async def test_an_unknown_name_drains_nothing(server: RunningServer) -> None:
    operator = Operator(server.url)
    for command in ("drain", "resume"):
        done = await operator.types("workers", command, "worker-1", "wroker-2")
        failed(done, "'wroker-2'", "did you mean", "worker-2")
    failed(await operator.types("workers", "drain", "nothing-like-it-at-all"), "'nothing-like")
    assert await operator.states() == {"worker-1": "idle", "worker-2": "idle"}


@pytest.mark.parametrize("command", ["drain", "resume"])
@pytest.mark.parametrize("names", [[], ["worker-1", "--all"]])
def test_either_names_or_all(command: str, names: list[str]) -> None:
    done = distbuild("workers", command, *names)
    assert done.returncode == 2
    assert done.stderr == f"error: workers {command}: name workers, or say --all\n"


@pytest.mark.parametrize(
    "command",
    [
        ["workers", "list"],
        ["workers", "drain", "--all", "--wait"],
        ["operations", "list", "--json"],
        ["operations", "show", "x"],
        ["operations", "cancel", "x", "y"],
    ],
)
def test_no_server(command: list[str], tmp_path: Path) -> None:
    for url in ("grpc://127.0.0.1:1", f"unix:{tmp_path}/none"):
        failed(distbuild(*command, "--server", url), f"no server answers at {url}")
    done = distbuild(*command, "--server", "http://x")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
