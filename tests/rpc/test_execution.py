"""Execute and WaitExecution over the wire, with a scripted worker."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey
from tests.rpc.execution_server import (
    SHA256,
    ScriptedWorker,
    execution_server,
    metadata_of,
    response_of,
)

QUEUED, EXECUTING, COMPLETED = 2, 3, 4


@pytest.mark.row(68)
@pytest.mark.row(70)
@pytest.mark.row(72)
@pytest.mark.row(76)
async def test_an_action_runs_and_both_streams_end_with_its_result() -> None:
    async with execution_server() as server:
        digest = await server.put_action()
        call = server.execute(digest)
        first = await call.read()
        assert (metadata_of(first).stage, first.done) == (QUEUED, False)
        assert metadata_of(first).action_digest == digest.to_message()
        wait = server.execution.WaitExecution(re_pb.WaitExecutionRequest(name=first.name))
        assert metadata_of(await wait.read()).stage == QUEUED

        worker = ScriptedWorker(server)
        work = await worker.take()
        assert work.action_digest == digest.to_message()
        assert work.digest_function == SHA256.number
        assert metadata_of(await call.read()).stage == EXECUTING
        stdout = await server.put(b"hello")
        result = re_pb.ActionResult(stdout_digest=stdout.to_message())
        await worker.completed(work, re_pb.ExecuteResponse(result=result))

        for stream in (call, wait):
            last = [operation async for operation in stream][-1]
            assert metadata_of(last).stage == COMPLETED
            response = response_of(last)
            assert response.result.stdout_digest == stdout.to_message()
            assert not response.cached_result
            metadata = response.result.execution_metadata
            assert metadata.worker == "w1"
            assert metadata.queued_timestamp == work.queued_timestamp
