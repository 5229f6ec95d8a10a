"""What every sandbox does, and what bubblewrap keeps an action from."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remote_apis.bubblewrap import find_bubblewrap
from remote_apis.errors import InvalidRequest
from worker.config import ResourceLimits, WorkerConfig
from worker.process import wait_for_exit
from worker.sandbox.become import BECOME, BUILT
from worker.sandbox.bubblewrap import BubblewrapProgram, BubblewrapSandbox
from worker.sandbox.interface import Finished, Sandbox, SandboxError, SandboxRequest
from worker.sandbox.none import NoSandbox
from worker.sandbox.select import open_sandbox

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
AS_ANOTHER = ["as-another-user", "as-another-user-by-tools"]
AS_THIS = ["as-this-user", "as-this-user-by-tools"]
WAYS = [*AS_ANOTHER, *AS_THIS, "none"]
BUBBLEWRAP = [*AS_ANOTHER, *AS_THIS] if os.geteuid() == 0 else AS_THIS


def sandbox_of(way: str, directory: Path) -> Sandbox:
    """One of the ways that a worker can run actions; `by-tools` where no C compiler is."""
    if way == "none":
        return NoSandbox()
    bwrap = find_bubblewrap()
    assert bwrap is not None
    become = None
    if not way.endswith("by-tools"):
        become = directory / "distbuild-become"
        directory.mkdir(parents=True)
        assert BECOME.take(BUILT, become)
    program = BubblewrapProgram(bwrap=bwrap, become=become)
    if way in AS_ANOTHER:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        program = replace(program, setpriv="/usr/bin/setpriv", first_uid=60_800)
    return BubblewrapSandbox(program, directory)


class Bench:
    """A sandbox and the directories of one action after the other."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.limits = ResourceLimits()
        self.count = 0

    def request(self, *arguments: str, **environment: str) -> SandboxRequest:
        """A command in a fresh directory, as the worker would prepare it."""
        self.count += 1
        base = self.directory / str(self.count)
        root = base / "root"
        root.mkdir(parents=True)
        owner = self.sandbox.owner(0)
        if owner is not None:
            os.chown(root, owner.uid, owner.gid)
        return SandboxRequest(
            slot=0,
            arguments=arguments,
            environment=environment,
            working_directory="",
            root=root,
            temporary=base / "tmp",
            stdout=base / "stdout",
            stderr=base / "stderr",
            limits=self.limits,
        )

    async def sh(
        self, script: str, *, timeout: float | None = None, **environment: str
    ) -> tuple[Finished, str, str]:
        """Run a shell script; how it ended, its stdout and its stderr."""
        request = self.request("/bin/sh", "-c", script, **environment)
        finished = await self.sandbox.run(request, timeout=timeout)
        return finished, request.stdout.read_text(), request.stderr.read_text()


@pytest.fixture(params=WAYS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(sandbox_of(request.param, tmp_path / "sandbox"), tmp_path / "actions")


@pytest.fixture(params=BUBBLEWRAP)
def boxed(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(sandbox_of(request.param, tmp_path / "sandbox"), tmp_path / "actions")


def processes_with(word: str) -> list[int]:
    """Processes of this machine that have a word on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word.encode() in line and state not in "ZX":
                found.append(int(entry.name))
    return found


@pytest.fixture
def word() -> Iterator[str]:
    """A number of seconds for sleep that no other process has."""
    yield f"10{os.getpid()}.{time.monotonic_ns() % 10**9}"


async def test_exit_code_and_output(bench: Bench) -> None:
    finished, stdout, stderr = await bench.sh("echo out; echo err >&2; exit 3")
    assert (finished.exit_code, finished.timed_out) == (3, False)
    assert (stdout, stderr) == ("out\n", "err\n")


async def test_a_signal_is_128_and_its_number(bench: Bench) -> None:
    finished, _, _ = await bench.sh("kill -TERM $$")
    assert finished.exit_code == 128 + signal.SIGTERM


async def test_files_made_in_the_root_are_there(bench: Bench) -> None:
    request = bench.request("/bin/sh", "-c", "pwd; echo x > made")
    await bench.sandbox.run(request, timeout=None)
    assert (request.root / "made").read_text() == "x\n"
    assert request.stdout.read_text() == bench.sandbox.inside(request.root) + "\n"


async def test_only_the_given_environment(bench: Bench) -> None:
    request = bench.request("/usr/bin/env", A="1", LD_LIBRARY_PATH="/nowhere")
    await bench.sandbox.run(request, timeout=None)
    assert sorted(request.stdout.read_text().splitlines()) == ["A=1", "LD_LIBRARY_PATH=/nowhere"]


async def test_standard_output_can_be_opened_again(bench: Bench) -> None:
    _, stdout, stderr = await bench.sh("echo a; echo b > /dev/stderr; echo c >> /dev/stdout")
    assert (stdout, stderr) == ("a\nc\n", "b\n")


async def test_standard_input_is_empty(bench: Bench) -> None:
    finished, stdout, _ = await bench.sh("cat; echo end", timeout=20)
    assert (finished.exit_code, stdout) == (0, "end\n")


async def test_a_program_that_is_not_there(bench: Bench) -> None:
    request = bench.request("no-such-program", PATH="/usr/bin:/bin")
    finished = await bench.sandbox.run(request, timeout=None)
    assert finished.exit_code == 127
    assert "no-such-program" in request.stderr.read_text()


async def test_a_file_that_is_no_program(bench: Bench) -> None:
    request = bench.request("./data")
    (request.root / "data").write_text("not a program")
    (request.root / "data").chmod(0o644)
    finished = await bench.sandbox.run(request, timeout=None)
    assert finished.exit_code == 126


async def test_a_timeout_ends_the_whole_tree(bench: Bench, word: str) -> None:
    script = f"(sleep {word} & sleep {word}) & echo begun; sleep {word}"
    finished, stdout, _ = await bench.sh(script, timeout=0.5)
    assert finished.timed_out
    assert finished.exit_code == 128 + signal.SIGKILL
    assert 0.5 <= finished.seconds < 20
    assert stdout == "begun\n"
    assert not processes_with(word)


async def test_a_cancellation_ends_the_whole_tree(bench: Bench, word: str) -> None:
    task = asyncio.create_task(bench.sh(f"sleep {word} & sleep {word}"))
    while len(processes_with(word)) < 2:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_with(word)


async def test_a_second_cancellation_changes_nothing(bench: Bench, word: str) -> None:
    task = asyncio.create_task(bench.sh(f"sleep {word}"))
    while not processes_with(word):
        await asyncio.sleep(0.02)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_with(word)


async def test_nothing_runs_on_after_the_command(bench: Bench, word: str) -> None:
    finished, _, _ = await bench.sh(f"sleep {word} > /dev/null 2>&1 & echo done", timeout=20)
    assert finished.exit_code == 0
    assert not processes_with(word)


async def test_no_descriptor_leaks_into_the_action(bench: Bench) -> None:
    secret, other = os.pipe()
    os.set_inheritable(secret, True)
    try:
        _, stdout, _ = await bench.sh("ls /proc/self/fd | wc -l")
    finally:
        os.close(secret)
        os.close(other)
    # stdin, stdout, stderr, and the directory that ls reads; a shell pipe adds none.
    assert int(stdout) <= 4 + 1


async def test_limits_hold(bench: Bench) -> None:
    bench.limits = ResourceLimits(file_bytes=64 * 1024, memory_bytes=300 * 1024 * 1024)
    finished, _, _ = await bench.sh("head -c 1000000 /dev/zero > big")
    assert finished.exit_code != 0
    request = bench.request(sys.executable, "-c", "bytearray(1 << 29)")
    if not sys.executable.startswith("/usr"):
        request = replace(request, arguments=("/usr/bin/tail", "-c", "500000000", "/dev/zero"))
    finished = await bench.sandbox.run(request, timeout=60)
    assert finished.exit_code != 0


async def test_cpu_time_is_limited(bench: Bench) -> None:
    bench.limits = ResourceLimits(cpu_seconds=1)
    finished, _, _ = await bench.sh("while :; do :; done", timeout=60)
    assert finished.exit_code in (128 + signal.SIGXCPU, 128 + signal.SIGKILL)
    assert not finished.timed_out


@NEEDS_ROOT
async def test_processes_are_limited(tmp_path: Path) -> None:
    bench = Bench(sandbox_of("as-another-user", tmp_path / "sandbox"), tmp_path / "actions")
    bench.limits = ResourceLimits(processes=5)
    finished, _, stderr = await bench.sh("for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait")
    assert finished.exit_code != 0
    assert "fork" in stderr.lower()


async def test_there_is_no_network(boxed: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
        request = boxed.request("/bin/bash", "-c", script)
        finished = await boxed.sandbox.run(request, timeout=None)
    assert finished.exit_code != 0
    _, stdout, _ = await boxed.sh("grep -c : /proc/net/dev")
    assert stdout == "1\n"


async def test_the_machine_is_hidden_or_read_only(boxed: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for script in (
        f"cat {secret}",
        "cat /etc/shadow",
        "ls /root /home",
        "touch /usr/made",
        "touch /made",
        "touch /etc/made",
        "chmod 777 /usr/bin",
        "kill -0 " + str(os.getpid()),
        "mount -t tmpfs none /build",
        "touch /proc/sys/kernel/hostname",
        "test -w /proc/sys/kernel/core_pattern",
        "test -w /proc/sysrq-trigger",
        "touch /dev/made",
        "rm /dev/null || ln -sf x /dev/null",
        "cat /proc/1/environ /proc/1/mem",
    ):
        finished, stdout, _ = await boxed.sh(script)
        assert finished.exit_code != 0, (script, stdout)


async def test_nothing_but_three_directories_can_be_written(boxed: Bench) -> None:
    _, stdout, _ = await boxed.sh(
        "find / -path '/proc/[1-9]*' -prune -o -type d -writable -print;"
        "find /proc/sys /proc/irq /proc/bus /sys -type f -writable; true"
    )
    # the kernel refuses what modes allow: one wants CAP_SYS_ADMIN, in the other no file is made
    refused = {"/proc/sys/kernel/ns_last_pid", "/dev/pts"}
    assert set(stdout.split()) - refused == {"/build", "/dev/shm", "/tmp"}
    for script in ("echo 1 > /proc/sys/kernel/ns_last_pid", "touch /dev/pts/made"):
        finished, _, _ = await boxed.sh(script)
        assert finished.exit_code != 0


async def test_an_action_is_an_ordinary_user(boxed: Bench) -> None:
    _, stdout, _ = await boxed.sh("id -u; id -un; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status")
    uid, name, *status = stdout.split()
    assert int(uid) > 0
    assert name == "build"
    assert status == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]


async def test_temporary_files_are_private_and_do_not_stay(boxed: Bench) -> None:
    mark = Path("/tmp") / f"distbuild-test-{os.getpid()}"
    assert not mark.exists()
    finished, _, _ = await boxed.sh(f"ls -A /tmp | grep . && exit 1; touch {mark} /dev/shm/x")
    assert finished.exit_code == 0
    assert not mark.exists()
    finished, _, _ = await boxed.sh(f"test ! -e {mark} -a ! -e /dev/shm/x")
    assert finished.exit_code == 0


@NEEDS_ROOT
async def test_linked_inputs_cannot_be_altered(tmp_path: Path) -> None:
    bench = Bench(sandbox_of("as-another-user", tmp_path / "sandbox"), tmp_path / "actions")
    cached = tmp_path / "cached"
    cached.write_text("right")
    cached.chmod(0o555)
    for script in (
        "echo wrong > input",
        "chmod u+w input",
        "touch input",
        "chown $(id -u) input",
        "truncate -s 0 input",
    ):
        request = bench.request("/bin/sh", "-c", script)
        os.link(cached, request.root / "input")
        before = cached.stat().st_mtime_ns
        finished = await bench.sandbox.run(request, timeout=None)
        assert finished.exit_code != 0, script
        assert (cached.read_text(), cached.stat().st_mtime_ns) == ("right", before)


@NEEDS_ROOT
async def test_root_is_given_up_before_the_action_has_a_say(tmp_path: Path) -> None:
    bench = Bench(sandbox_of("as-another-user", tmp_path / "sandbox"), tmp_path / "actions")
    # A library that is loaded into whatever program starts first says who that is.
    request = bench.request("/bin/true", LD_DEBUG="files", LD_DEBUG_OUTPUT="/build/log")
    await bench.sandbox.run(request, timeout=None)
    logs = list(request.root.glob("log.*"))
    assert logs
    assert {log.stat().st_uid for log in logs} == {60_800}


async def test_a_failing_sandbox_is_no_exit_code(tmp_path: Path) -> None:
    bwrap = find_bubblewrap()
    assert bwrap is not None
    program = BubblewrapProgram(bwrap=bwrap)
    bench = Bench(BubblewrapSandbox(program, tmp_path / "sandbox"), tmp_path / "actions")
    request = replace(bench.request("/bin/true"), working_directory="not/there")
    with pytest.raises(SandboxError, match="not/there"):
        await bench.sandbox.run(request, timeout=None)
    broken = BubblewrapSandbox(BubblewrapProgram(bwrap="/nowhere/bwrap"), tmp_path / "other")
    with pytest.raises(SandboxError, match="cannot be started"):
        await broken.run(bench.request("/bin/true"), timeout=None)


async def test_without_bubblewrap_the_user_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = WorkerConfig(name="w", server="", directory=tmp_path, sandbox="bubblewrap")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidRequest, match="--sandbox none"):
        await open_sandbox(config)
    useless = tmp_path / "bwrap"
    useless.write_text("#!/bin/sh\necho cannot do that >&2\nexit 1\n")
    useless.chmod(0o755)
    with pytest.raises(InvalidRequest, match=r"cannot do that.*--sandbox none"):
        await open_sandbox(config)


KILLED_WORKER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from tests.worker.test_sandbox import Bench, sandbox_of
base = Path({base!r})
bench = Bench(sandbox_of({way!r}, base / "sandbox"), base / "actions")
asyncio.run(bench.sh("sleep {word} & sleep {word}"))
"""


@pytest.mark.parametrize("way", BUBBLEWRAP)
async def test_a_killed_worker_leaves_no_process(tmp_path: Path, way: str, word: str) -> None:
    root = str(Path(__file__).parent.parent.parent)
    code = KILLED_WORKER.format(path=[root], base=str(tmp_path), way=way, word=word)
    with subprocess.Popen([sys.executable, "-c", code], cwd=root) as worker:
        try:
            while len(processes_with(f"sleep\0{word}")) < 2:
                assert worker.poll() is None
                await asyncio.sleep(0.05)
        finally:
            worker.kill()
    async with asyncio.timeout(20):
        for pid in processes_with(word):
            await wait_for_exit(pid)
    assert not processes_with(word)
