"""A client reads what a command prints on a real worker while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from running import RunningServer, running_server

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc

EXECUTING = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("server")
    with running_server(directory, "--workers", "1", "--sandbox", "none") as running:
        yield running


async def put_action(channel: grpc.aio.Channel, script: str) -> re_pb.Digest:
    command = re_pb.Command(arguments=["/bin/sh", "-c", script])
    blobs = [command.SerializeToString(deterministic=True), b""]
    digests = [Digest.of(blob, DigestFunction.SHA256).to_message() for blob in blobs]
    action = re_pb.Action(
        command_digest=digests[0], input_root_digest=digests[1], do_not_cache=True
    )
    blobs.append(action.SerializeToString(deterministic=True))
    digests.append(Digest.of(blobs[2], DigestFunction.SHA256).to_message())
    request = re_pb.BatchUpdateBlobsRequest()
    for digest, blob in zip(digests, blobs, strict=True):
        request.requests.add(digest=digest, data=blob)
    response = await re_grpc.ContentAddressableStorageStub(channel).BatchUpdateBlobs(request)
    assert all(each.status.code == 0 for each in response.responses)
    return digests[2]


async def executing(call: Any) -> re_pb.ExecuteOperationMetadata:
    """Wait until the action runs; the metadata then."""
    async for operation in call:
        metadata = re_pb.ExecuteOperationMetadata()
        assert operation.metadata.Unpack(metadata)
        if metadata.stage == EXECUTING:
            return metadata
    raise AssertionError("never executing")


async def read_all(stub: Any, name: str) -> bytes:
    call = stub.Read(bs_pb.ReadRequest(resource_name=name), timeout=60)
    return b"".join([response.data async for response in call])


async def outcome(call: Any) -> re_pb.ExecuteResponse:
    last = [operation async for operation in call][-1]
    response = re_pb.ExecuteResponse()
    assert last.done and last.response.Unpack(response)
    return response


@pytest.mark.row(73)
async def test_output_is_seen_while_the_command_still_runs(
    server: RunningServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"echo one; echo oops >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo two"
    async with grpc.aio.insecure_channel(server.target) as channel, asyncio.timeout(60):
        digest = await put_action(channel, script)
        call = re_grpc.ExecutionStub(channel).Execute(
            re_pb.ExecuteRequest(action_digest=digest, inline_stdout=True)
        )
        metadata = await executing(call)
        stub = bs_grpc.ByteStreamStub(channel)
        reading = stub.Read(bs_pb.ReadRequest(resource_name=metadata.stdout_stream_name))
        assert (await reading.read()).data == b"one\n"
        errors = stub.Read(bs_pb.ReadRequest(resource_name=metadata.stderr_stream_name))
        assert (await errors.read()).data == b"oops\n"
        gate.touch()
        assert (await reading.read()).data == b"two\n"
        assert await reading.read() is grpc.aio.EOF
        assert await errors.read() is grpc.aio.EOF
        response = await outcome(call)
        assert response.result.stdout_raw == b"one\ntwo\n"


@pytest.mark.row(73)
@pytest.mark.parametrize("lines", [0, 1, 200_000])
async def test_the_streams_end_with_everything_that_was_printed(
    server: RunningServer, lines: int
) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel, asyncio.timeout(60):
        digest = await put_action(channel, f"seq {lines}")
        call = re_grpc.ExecutionStub(channel).Execute(re_pb.ExecuteRequest(action_digest=digest))
        metadata = await executing(call)
        stub = bs_grpc.ByteStreamStub(channel)
        expected = b"".join(b"%d\n" % number for number in range(1, lines + 1))
        assert await read_all(stub, metadata.stdout_stream_name) == expected
        assert await read_all(stub, metadata.stderr_stream_name) == b""
        response = await outcome(call)
        assert response.result.exit_code == 0
        assert not response.result.execution_metadata.auxiliary_metadata
