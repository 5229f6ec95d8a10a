"""A server, workers and developers on machines of their own, one of which is cut off."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from developers import Developer, developer, outcomes
from machines import Machine, Switch, descendants, switch
from napping import write_workspace
from running import running_server, running_worker

pytestmark = [pytest.mark.cargo, pytest.mark.fault, pytest.mark.timeout(400)]
PORT = 8980
HEALTH_PORT = 6001
DEADLINE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker with one slot on a machine of its own."""

    name: str
    machine: Machine
    process: subprocess.Popen[str]

    def compiling(self) -> str:
        """What its rustc is compiling now; empty when there is none."""
        for _, line in descendants(self.process.pid):
            before, _, rest = line.partition(" --crate-name ")
            if before.endswith("/toolchain/bin/rustc"):
                return rest.split()[0]
        return ""

    def figure(self, name: str) -> int:
        """A figure of its metrics page."""
        page = self.machine.get(HEALTH_PORT, "/metrics")
        assert page is not None
        (line,) = (line for line in page.splitlines() if line.startswith(f"{name}{{"))
        return int(line.split()[1])


class Site:
    """A switch, a server on it, and what is added."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.switch: Switch = stack.enter_context(switch())
        self._directory = directory
        self._stack = stack
        machine = self.switch.add()
        server = running_server(
            directory / "server", "--insecure", "--workers", "0",
            listen=f"{machine.address}:{PORT}", prefix=machine.prefix,
        )  # fmt: skip
        self.url = stack.enter_context(server).url

    def worker(self, name: str) -> Worker:
        machine = self.switch.add()
        process = self._stack.enter_context(
            running_worker(name, self.url, self._directory, HEALTH_PORT, prefix=machine.prefix)
        )
        return Worker(name=name, machine=machine, process=process)

    def developer(self, name: str) -> Developer:
        machine = self.switch.add()
        return self._stack.enter_context(
            developer(self._directory / name, self.url, prefix=machine.prefix)
        )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def until(condition: Callable[[], bool], build: subprocess.Popen[str] | None = None) -> None:
    """Wait for a condition, while a build goes on if one is named."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        assert build is None or build.poll() is None, build.communicate()[1]
        time.sleep(0.02)


def start_build(dev: Developer, workspace: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*dev.prefix, "cargo", "distbuild", "build", "--jobs", "8"],
        cwd=workspace, env=dev.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(build: subprocess.Popen[str]) -> None:
    _, stderr = build.communicate(timeout=DEADLINE)
    assert build.returncode == 0, stderr
    assert "warning" not in stderr, stderr


def test_machines_come_and_go(tmp_path: Path, stack: ExitStack) -> None:
    site = Site(tmp_path, stack)
    workers = [site.worker(f"worker-{number}") for number in (1, 2, 3)]
    alice, bob = site.developer("alice"), site.developer("bob")
    project = write_workspace(tmp_path / "alice" / "project", [(3, 4.0), (4, 2.0)])

    build = start_build(alice, project)
    lost, crate = cut_off_at_work(site, workers, build)
    site.worker("worker-4")
    finish(build)

    units = {unit["crate"]: unit for unit in alice.units(project)}
    assert outcomes(list(units.values())) == {"remote"}, units
    assert units[crate]["worker"] != lost.name, units
    made = {unit["worker"] for name, unit in units.items() if name != "nap"}
    assert made == {"worker-1", "worker-2", "worker-3", "worker-4"} - {lost.name}, units
    program = project / "target" / "debug" / "total"
    assert alice.run(program, cwd=project).stdout == "7\n"
    assert lost.machine.get(HEALTH_PORT, "/healthz") is None
    others = [worker for worker in workers if worker is not lost]
    assert [worker.figure("distbuild_worker_slots_busy") for worker in others] == [0, 0]

    site.switch.plug(lost.machine)
    elsewhere = bob.checkout("elsewhere", project)
    assert outcomes(bob.build(elsewhere)) == {"hit-remote"}
    assert (elsewhere / "target" / "debug" / "total").read_bytes() == program.read_bytes()
    # what it made meanwhile is of no use any more, and it learns that
    until(lambda: lost.figure("distbuild_worker_slots_busy") == 0)

    other = write_workspace(tmp_path / "bob" / "other", [(8, 1.0)])
    build = start_build(bob, other)
    crate = drained_at_work(others[0], build)
    finish(build)
    units = {unit["crate"]: unit for unit in bob.units(other)}
    assert lost.name in {unit["worker"] for unit in units.values()}, units
    assert units[crate]["worker"] == others[0].name, units


def cut_off_at_work(
    site: Site, workers: list[Worker], build: subprocess.Popen[str]
) -> tuple[Worker, str]:
    """When all workers compile, cut one off; it, and the crate that it was at."""
    at_work: dict[str, str] = {}

    def all_have_begun() -> bool:
        at_work.update({w.name: w.compiling() for w in workers if "layer" in w.compiling()})
        return len(at_work) == len(workers)

    until(all_have_begun, build)
    last = list(at_work)[-1]
    lost = next(worker for worker in workers if worker.name == last)
    site.switch.unplug(lost.machine)
    assert lost.compiling() == at_work[last], "cut off too late to be in the middle"
    return lost, at_work[last]


def drained_at_work(worker: Worker, build: subprocess.Popen[str]) -> str:
    """SIGTERM to a worker that compiles, as systemd and Kubernetes send it; the crate.

    It finishes that and ends well.
    """
    until(lambda: "layer" in worker.compiling(), build)
    crate = worker.compiling()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(DEADLINE) == 0
    return crate
