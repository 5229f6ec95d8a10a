"""A server that answers slowly is left alone for a while: builds go on without it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from wrapper.remote import RETRY_AFTER, Remote

ACTION = Digest.of(b"action", DigestFunction.SHA256)


class Slow(re_grpc.ActionCacheServicer):
    """Has nothing."""

    async def GetActionResult(
        self, request: re_pb.GetActionResultRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> re_pb.ActionResult:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        raise AssertionError("abort returned")


async def test_some_slow_answers_in_a_row() -> None:
    server = grpc.aio.server()
    re_grpc.add_ActionCacheServicer_to_server(Slow(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    now = [0.0]
    remote = Remote(f"grpc://127.0.0.1:{port}", "", clock=lambda: now[0])

    async def look_up(*, seconds: float) -> None:
        lookup = asyncio.create_task(remote.lookup(ACTION))
        await asyncio.sleep(0)
        now[0] += seconds
        assert await lookup is None

    try:
        for seconds in (2.0, 2.0, 2.0, 0.0, 2.0, 2.0, 2.0):
            await look_up(seconds=seconds)
            assert not remote.is_down
        await look_up(seconds=2.0)
        assert remote.is_down
        assert remote.trouble == "answers too slowly"
        now[0] += RETRY_AFTER + 1
        assert not remote.is_down
    finally:
        await remote.close()
        await server.stop(None)
