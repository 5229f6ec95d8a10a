"""`distbuild workers list|drain|resume`."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc.aio

from remote_apis.client.workers import WorkersClient
from remote_apis.errors import FailedPrecondition, InvalidRequest
from remote_apis.stubs.distbuild.workers.v1 import workers_pb2 as w_pb
from server.cli.client import PATIENT, PROMPT, run_client, say, say_json
from server.cli.text import between, digest_text, instant, table

_State = w_pb.Worker.State
_OUT_OF_SERVICE = (_State.DRAINING, _State.DRAINED, _State.AWAY)
_POLL_SECONDS = 0.5
_AWAY_SECONDS = 30.0
"""A worker that is away for so long has been given up by the scheduler, its action included."""
_LONGEST_VALUE = 24


def run_workers_command(parsed: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    if parsed.action != "list" and bool(parsed.names) == parsed.all:
        raise InvalidRequest(f"workers {parsed.action}: name workers, or say --all")

    async def command(channel: grpc.aio.Channel) -> int:
        client = WorkersClient(channel, limits=PROMPT)
        if parsed.action == "list":
            _show(await client.list(), parsed)
        elif parsed.action == "drain":
            await _drain(client, channel, parsed)
        else:
            await _resume(client, parsed)
        return 0

    return run_client(parsed, command)


async def _drain(
    client: WorkersClient, channel: grpc.aio.Channel, parsed: argparse.Namespace
) -> None:
    names = parsed.names or [worker.name for worker in await client.list()]
    workers = await client.drain(names) if names else []
    if parsed.wait:
        busy = [worker for worker in workers if worker.state != _State.DRAINED]
        if not parsed.json:
            _say_states(busy)
        patient = WorkersClient(channel, limits=PATIENT)
        workers = await _until_drained(patient, [worker.name for worker in workers])
    if parsed.json:
        say_json([_value(worker) for worker in workers])
    else:
        _say_states(workers)


async def _resume(client: WorkersClient, parsed: argparse.Namespace) -> None:
    names = parsed.names or [w.name for w in await client.list() if w.state in _OUT_OF_SERVICE]
    workers = await client.resume(names) if names else []
    if parsed.json:
        say_json([_value(worker) for worker in workers])
    else:
        say(f"{worker.name} resumed, {_state(worker)}" for worker in workers)


async def _until_drained(client: WorkersClient, names: Sequence[str]) -> list[w_pb.Worker]:
    """Wait until none of the workers runs anything; returns them.

    Raises FailedPrecondition when one is resumed meanwhile.
    """
    away_since: dict[str, float] = {}
    while True:
        known = {worker.name: worker for worker in await client.list()}
        now = time.monotonic()
        waiting = False
        for name in names:
            state = known[name].state if name in known else _State.STATE_UNSPECIFIED
            if state == _State.AWAY:
                waiting |= now - away_since.setdefault(name, now) < _AWAY_SECONDS
                continue
            away_since.pop(name, None)
            if state not in (_State.DRAINING, _State.DRAINED):
                raise FailedPrecondition(f"worker {name} was resumed meanwhile")
            waiting |= state == _State.DRAINING
        if not waiting:
            return [known[name] for name in names]
        await asyncio.sleep(_POLL_SECONDS)


def _show(workers: Sequence[w_pb.Worker], parsed: argparse.Namespace) -> None:
    if parsed.json:
        say_json([_value(worker) for worker in workers])
        return
    header = ("NAME", "STATE", "SEEN", "RUNS", "FOR", "PLATFORM")
    now = w_pb.Worker().last_seen
    now.GetCurrentTime()
    rows = [
        (
            worker.name,
            _state(worker),
            f"{between(worker.last_seen, now)} ago" if worker.HasField("last_seen") else "",
            _what(worker.lease) if worker.HasField("lease") else "",
            between(worker.lease.since, now),
            _offer(worker),
        )
        for worker in workers
    ]
    say(table(header, rows))


def _say_states(workers: Sequence[w_pb.Worker]) -> None:
    for worker in workers:
        runs = f": runs {_what(worker.lease)}" if worker.HasField("lease") else ""
        say([f"{worker.name} {_state(worker)}{runs}"])


def _state(worker: w_pb.Worker) -> str:
    return _State.Name(worker.state).lower()


def _what(lease: w_pb.Worker.Lease) -> str:
    more = f" (for {len(lease.operation_names)})" if len(lease.operation_names) > 1 else ""
    return f"{lease.label or lease.action_digest.hash[:12]}{more}"


def _offer(worker: w_pb.Worker) -> str:
    properties = [f"{each.name}={_shortened(each.value)}" for each in worker.platform.properties]
    prefix = [f"instance={worker.instance_name_prefix}"] if worker.instance_name_prefix else []
    return " ".join((*prefix, *properties))


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}…"


def _value(worker: w_pb.Worker) -> dict[str, Any]:
    properties = worker.platform.properties
    return {
        "name": worker.name,
        "state": _state(worker),
        "last_seen": instant(worker.last_seen),
        "instance_name_prefix": worker.instance_name_prefix,
        "platform": [{"name": each.name, "value": each.value} for each in properties],
        "lease": _lease_value(worker.lease) if worker.HasField("lease") else None,
    }


def _lease_value(lease: w_pb.Worker.Lease) -> dict[str, Any]:
    return {
        "operations": [*lease.operation_names],
        "action_digest": digest_text(lease.action_digest, lease.digest_function),
        "label": lease.label,
        "since": instant(lease.since),
    }
