"""What a queued operation costs in memory."""

from __future__ import annotations

import gc
import tracemalloc

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.scheduler import events as e
from server.scheduler.core import Core
from server.scheduler.naming import random_id
from server.scheduler.settings import SchedulerSettings
from server.scheduler.values import ExecuteSpec, Requirement

OPERATIONS = 5000
LIMIT = 1000
"""Bytes an operation, of which the serialised Action is some 200."""


def request(number: int) -> e.ExecuteRequested:
    """What a bazel client asks for, every object in it newly made."""
    blob = Digest.of(b"%d" % number, DigestFunction.SHA256)
    action = re_pb.Action(command_digest=blob.to_message(), input_root_digest=blob.to_message())
    action.platform.properties.add(name="OSFamily", value="linux")
    data = action.SerializeToString()
    spec = ExecuteSpec(
        requirement=Requirement(
            b"main".decode(), tuple((p.name, p.value) for p in action.platform.properties)
        ),
        packed_digest=Digest.of(data, DigestFunction.SHA256).packed(),
        action=data,
        invocation=f"c0ffee00-0000-0000-0000-{number % 3:012}",
        label=f"CppCompile //some/package:{number}",
    )
    name = f"main/operations/{random_id()}"
    return e.ExecuteRequested(
        now=number / 1000, operation=name, spec=spec, queued_at=10**18 + number
    )


def test_a_queued_operation_without_a_client_takes_about_a_kibibyte() -> None:
    core = Core(SchedulerSettings(), now=0.0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(OPERATIONS):
            event = request(number)
            core.handle(event)
            core.handle(e.WaiterAttached(now=event.now, operation=event.operation))
            core.handle(e.WaiterDropped(now=event.now, operation=event.operation))
        del event
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / OPERATIONS < LIMIT
