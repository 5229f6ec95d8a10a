"""The network that actions of a slot have one after the other: empty, and as new for each."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.worker.test_sandbox import Bench, sandbox_of
from tests.worker.test_worker_process import ROOT
from worker.sandbox.network import EmptyNetwork

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
WHERE = "readlink /proc/self/ns/net; "
LISTEN = (
    "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', "
    "LocalPort => 7777) or die $!; my $c = IO::Socket::INET->new('127.0.0.1:7777') or die $!; "
)
TALK = f"perl -e {shlex.quote(f'{LISTEN} my $a = $s->accept; close $c; close $a')}"
"""A connection that stays in TIME_WAIT, where the port cannot be had again for a minute."""
USES = [
    TALK,
    "echo > /dev/udp/127.0.0.1/9 && true",
    "exec 3<> /dev/tcp/127.0.0.1/9; true",
    "echo > /dev/udp/10.1.2.3/9; true",
    "echo > /dev/udp/fd00::1/9; true",
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(sandbox_of("as-another-user", tmp_path / "sandbox"), tmp_path / "actions")


async def bash(bench: Bench, script: str, *, slot: int = 0) -> str:
    request = bench.request("/bin/bash", "-c", script)
    owner = bench.sandbox.owner(slot)
    assert owner is not None
    os.chown(request.root, owner.uid, owner.gid)
    request = replace(request, slot=slot)
    finished = await bench.sandbox.run(request, timeout=60)
    assert finished.exit_code == 0, request.stderr.read_text()
    return request.stdout.read_text()


@NEEDS_ROOT
async def test_an_action_without_network_use_leaves_it_to_the_next(bench: Bench) -> None:
    before = os.readlink("/proc/self/ns/net")
    seen = {await bash(bench, WHERE) for _ in range(3)}
    assert len(seen) == 1
    assert {before + "\n"}.isdisjoint(seen)
    assert os.readlink("/proc/self/ns/net") == before


@NEEDS_ROOT
@pytest.mark.parametrize("use", USES)
async def test_an_action_finds_no_trace_of_those_before(bench: Bench, use: str) -> None:
    state = "cat /proc/net/dev /proc/net/snmp /proc/net/snmp6 /proc/net/tcp /proc/net/unix"
    fresh = await bash(bench, state)
    first = await bash(bench, f"{WHERE} {{ {use}; }} 2> /dev/null")
    assert await bash(bench, state) == fresh
    assert await bash(bench, WHERE) != first


@NEEDS_ROOT
async def test_the_same_port_can_be_had_by_each(bench: Bench) -> None:
    for _ in range(3):
        await bash(bench, TALK)


@NEEDS_ROOT
async def test_slots_share_no_network(bench: Bench) -> None:
    waits = f"{WHERE} sleep 0.3"
    seen = await asyncio.gather(*(bash(bench, waits, slot=slot) for slot in range(3)))
    assert len({*seen, os.readlink("/proc/self/ns/net") + "\n"}) == 4


@NEEDS_ROOT
async def test_what_is_left_when_an_action_is_killed(bench: Bench) -> None:
    request = bench.request("/usr/bin/perl", "-e", f"{LISTEN} print 'up'; $| = 1; sleep 60")
    finished = await bench.sandbox.run(request, timeout=1.0)
    assert finished.timed_out
    await bash(bench, TALK)


@NEEDS_ROOT
def test_a_thread_gets_back_when_the_block_fails() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    network = EmptyNetwork()
    with pytest.raises(ZeroDivisionError), network.entered():
        assert os.readlink("/proc/thread-self/ns/net") != before
        raise ZeroDivisionError
    assert os.readlink("/proc/thread-self/ns/net") == before


CAN_COME_BACK = "from worker.sandbox.network import can_come_back; print(can_come_back())"


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("namespaces", "can"), [(["--user", "--map-root-user"], False), (["--net"], True)]
)
def test_a_network_is_entered_only_where_one_can_come_back(
    namespaces: list[str], can: bool
) -> None:
    """Root of a user namespace may make networks, and not enter the machine's again."""
    command = ["unshare", *namespaces, sys.executable, "-c", CAN_COME_BACK]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said == f"{can}\n"


@NEEDS_ROOT
async def test_there_is_no_network_where_none_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sandbox.bubblewrap.can_come_back", lambda: False)
    bench = Bench(sandbox_of("as-another-user", tmp_path / "sandbox"), tmp_path / "actions")
    assert await bash(bench, WHERE) != os.readlink("/proc/self/ns/net") + "\n"
    assert await bash(bench, "grep -c : /proc/net/dev") == "1\n"
