"""`distbuild operations list|show|cancel`, for any server with google.longrunning.Operations."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from remote_apis.client.operations import OperationsClient, OperationView, unpack_operation
from remote_apis.errors import DistbuildError, Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.cli.client import FAILED, PROMPT, complain, run_client, say, say_json
from server.cli.text import between, digest_text, fields, instant, is_set, table

_STEPS = (("inputs", "input_fetch"), ("ran", "execution"), ("outputs", "output_upload"))
"""What `show` calls the steps of ExecutedActionMetadata."""


def run_operations_command(parsed: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""

    async def command(channel: grpc.aio.Channel) -> int:
        client = OperationsClient(channel, instance=getattr(parsed, "instance", ""), limits=PROMPT)
        if parsed.action == "list":
            await _list(client, parsed)
            return 0
        if parsed.action == "show":
            _show(unpack_operation(await client.get(parsed.name)), parsed)
            return 0
        return await _cancel(client, parsed)

    return run_client(parsed, command)


async def _list(client: OperationsClient, parsed: argparse.Namespace) -> None:
    done = True if parsed.done else False if parsed.running else None
    views: deque[OperationView] = deque(maxlen=parsed.limit or None)
    count = 0
    async with aclosing(client.list(done=done)) as operations:
        async for operation in operations:
            views.append(unpack_operation(operation))
            count += 1
    if parsed.json:
        say_json([_value(view) for view in views])
        return
    now = Timestamp()
    now.GetCurrentTime()
    header = ("NAME", "STAGE", "ASKED", "WORKER", "RESULT", "TARGET")
    say(table(header, (_row(view, now) for view in views)))
    if count > len(views):
        say([f"and {count - len(views)} before these (--limit)"])


async def _cancel(client: OperationsClient, parsed: argparse.Namespace) -> int:
    """Cancel one after the other; those that cannot be do not keep the others from it."""
    outcomes: list[dict[str, Any]] = []
    failed = False
    for name in parsed.names:
        try:
            was_done = (await client.get(name)).done
            if not was_done:
                await client.cancel(name)
        except Unavailable:
            raise
        except DistbuildError as error:
            complain(error)
            failed = True
            continue
        outcomes.append({"name": name, "outcome": "done already" if was_done else "cancelled"})
    if parsed.json:
        say_json(outcomes)
    else:
        say(f"{each['name']} {each['outcome']}" for each in outcomes)
    return FAILED if failed else 0


def _show(view: OperationView, parsed: argparse.Namespace) -> None:
    if parsed.json:
        say_json(_value(view))
        return
    say(fields(_details(view)))


def _details(view: OperationView) -> Iterator[tuple[str, str]]:
    now = Timestamp()
    now.GetCurrentTime()
    queued = _asked_at(view)
    times = view.execution
    yield "name", view.name
    yield "stage", _stage(view)
    yield "target", _target(view)
    yield "invocation", view.about.tool_invocation_id
    yield "action", _action(view)
    yield "worker", times.worker
    yield "asked", f"{instant(queued)}, {between(queued, now)} ago" if is_set(queued) else ""
    yield "waited", between(times.queued_timestamp, times.worker_start_timestamp)
    for name, step in (
        ("inputs", "input_fetch"),
        ("ran", "execution"),
        ("outputs", "output_upload"),
    ):
        start, end = (getattr(times, f"{step}_{edge}_timestamp") for edge in ("start", "completed"))
        yield name, between(start, end)
    if view.response is not None:
        yield from _outcome(view.response)
    if view.done:
        yield "status", _code(view)
        yield "message", view.error.message


def _outcome(response: re_pb.ExecuteResponse) -> Iterator[tuple[str, str]]:
    result = response.result
    if response.HasField("result"):
        yield "exit code", str(result.exit_code)
        yield "cached", "yes" if response.cached_result else "no"
        yield "stdout", digest_text(result.stdout_digest)
        yield "stderr", digest_text(result.stderr_digest)
        count = len(result.output_files) + len(result.output_directories)
        yield "output files", str(count + len(result.output_symlinks))
    yield "note", response.message


def _row(view: OperationView, now: Timestamp) -> tuple[str, ...]:
    asked = between(_asked_at(view), now)
    return (
        view.name,
        _stage(view),
        f"{asked} ago" if asked else "",
        view.execution.worker,
        _result(view),
        _target(view) or view.metadata.action_digest.hash[:12],
    )


def _result(view: OperationView) -> str:
    if not view.done:
        return ""
    if view.error.code or view.response is None:
        return _code(view)
    cached = ", cached" if view.response.cached_result else ""
    return f"exit {view.response.result.exit_code}{cached}"


def _value(view: OperationView) -> dict[str, Any]:
    response, times = view.response, view.execution
    has_result = response is not None and response.HasField("result")
    result = response.result if response is not None else re_pb.ActionResult()
    return {
        "name": view.name,
        "done": view.done,
        "stage": _stage(view),
        "target": _target(view),
        "invocation": view.about.tool_invocation_id,
        "action_digest": _action(view),
        "worker": times.worker,
        "asked_at": instant(_asked_at(view)),
        "started_at": instant(times.worker_start_timestamp),
        "completed_at": instant(times.worker_completed_timestamp),
        "status": {"code": _code(view), "message": view.error.message} if view.done else None,
        "exit_code": result.exit_code if has_result else None,
        "cached": response.cached_result if response is not None else None,
        "stdout_digest": digest_text(result.stdout_digest) or None,
        "stderr_digest": digest_text(result.stderr_digest) or None,
    }


def _asked_at(view: OperationView) -> Timestamp:
    partial: Timestamp = view.metadata.partial_execution_metadata.queued_timestamp
    return partial if is_set(partial) else view.execution.queued_timestamp


def _stage(view: OperationView) -> str:
    stage = view.metadata.stage or (re_pb.ExecutionStage.COMPLETED if view.done else 0)
    return re_pb.ExecutionStage.Value.Name(stage).lower().replace("_", "-")


def _target(view: OperationView) -> str:
    return f"{view.about.action_mnemonic} {view.about.target_id}".strip()


def _action(view: OperationView) -> str:
    return digest_text(view.metadata.action_digest, view.metadata.digest_function)


def _code(view: OperationView) -> str:
    try:
        return str(code_pb2.Code.Name(view.error.code))
    except ValueError:
        return str(view.error.code)
