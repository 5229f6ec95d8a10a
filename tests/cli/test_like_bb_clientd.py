"""A client of our own that talks as bb-clientd does, and as its clients do through it.

It passes our Capabilities on, asking three times; sets digest_function in FindMissingBlobs and
GetActionResult; repeats the resource name in a header of each ByteStream call; reads a directory of
its mount by one ByteStream.Read for each Directory and file, with no GetTree and no batch; hands
Execute through. Instance names may be empty or of several segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from running import RunningServer, running_server

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc

pytestmark = pytest.mark.timeout(180)
SHA256 = DigestFunction.SHA256
HEADER = "build.bazel.remote.execution.v2.resource-name"
UUID = "7a8c2b54-27a5-4a1e-8f3c-3d9e1c7b6a10"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("server")
    with running_server(directory, "--workers", "1", "--sandbox", "none") as running:
        yield running


class Client:
    """One connection, one instance name."""

    def __init__(self, channel: grpc.Channel, instance: str) -> None:
        self.instance = instance
        self.capabilities = re_grpc.CapabilitiesStub(channel)
        self.cas = re_grpc.ContentAddressableStorageStub(channel)
        self.results = re_grpc.ActionCacheStub(channel)
        self.execution = re_grpc.ExecutionStub(channel)
        self.streams = bs_grpc.ByteStreamStub(channel)

    def name(self, *parts: str) -> str:
        return "/".join(part for part in (self.instance, *parts) if part)

    def put(self, data: bytes) -> re_pb.Digest:
        """Ask whether it is missing, with the digest function said, then upload it."""
        digest = Digest.of(data, SHA256)
        missing = self.cas.FindMissingBlobs(
            re_pb.FindMissingBlobsRequest(
                instance_name=self.instance,
                blob_digests=[digest.to_message()],
                digest_function=re_pb.DigestFunction.SHA256,
            )
        ).missing_blob_digests
        if missing:
            name = self.name("uploads", UUID, "blobs", digest.hash, str(digest.size))
            request = bs_pb.WriteRequest(resource_name=name, data=data, finish_write=True)
            answer = self.streams.Write(iter([request]), metadata=((HEADER, name),))
            assert answer.committed_size == len(data)
        return digest.to_message()

    def read(self, digest: re_pb.Digest) -> bytes:
        name = self.name("blobs", digest.hash, str(digest.size_bytes))
        pieces = self.streams.Read(
            bs_pb.ReadRequest(resource_name=name), metadata=((HEADER, name),)
        )
        return b"".join(piece.data for piece in pieces)

    def walk(self, digest: re_pb.Digest, path: str = "") -> Iterator[tuple[str, bytes]]:
        """Look around in the mount: one Read for each Directory and each file."""
        directory = re_pb.Directory.FromString(self.read(digest))
        for file in directory.files:
            yield path + file.name, self.read(file.digest)
        for child in directory.directories:
            yield from self.walk(child.digest, f"{path}{child.name}/")


@pytest.fixture(params=["", "team/project/main"])
def client(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with grpc.insecure_channel(server.target) as channel:
        yield Client(channel, request.param)


def test_capabilities_are_the_same_three_times(client: Client) -> None:
    request = re_pb.GetCapabilitiesRequest(instance_name=client.instance)
    answers = [client.capabilities.GetCapabilities(request) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    low, high = answers[0].low_api_version, answers[0].high_api_version
    assert (low.major, low.minor) == (2, 0) and (high.major, high.minor) == (2, 12)
    assert re_pb.DigestFunction.SHA256 in answers[0].cache_capabilities.digest_functions
    assert answers[0].execution_capabilities.exec_enabled


def test_a_mounted_directory(client: Client) -> None:
    inner = re_pb.Directory()
    inner.files.add(name="b.txt", digest=client.put(b"below"))
    outer = re_pb.Directory()
    outer.files.add(name="a.txt", digest=client.put(b"above"))
    outer.files.add(name="empty", digest=client.put(b""))
    outer.directories.add(name="d", digest=client.put(inner.SerializeToString()))
    root = client.put(outer.SerializeToString())
    found = dict(client.walk(root))
    assert found == {"a.txt": b"above", "empty": b"", "d/b.txt": b"below"}


def test_a_directory_that_is_not_there(client: Client) -> None:
    absent = Digest.of(f"absent {client.instance}".encode(), SHA256).to_message()
    with pytest.raises(grpc.RpcError) as caught:
        list(client.walk(absent))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_header_that_names_another_blob(client: Client) -> None:
    digest = client.put(b"one")
    name = client.name("blobs", digest.hash, str(digest.size_bytes))
    with pytest.raises(grpc.RpcError) as caught:
        list(
            client.streams.Read(
                bs_pb.ReadRequest(resource_name=name), metadata=((HEADER, name + "0"),)
            )
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_execute_passes_through(client: Client, tmp_path: Path) -> None:
    text = f"made for {client.instance or 'everybody'}"
    command = re_pb.Command(
        arguments=["/bin/sh", "-c", f"printf '{text}' > out"], output_files=["out"]
    )
    action = re_pb.Action(
        command_digest=client.put(command.SerializeToString()),
        input_root_digest=client.put(re_pb.Directory().SerializeToString()),
    )
    digest = client.put(action.SerializeToString())
    lookup = re_pb.GetActionResultRequest(
        instance_name=client.instance,
        action_digest=digest,
        digest_function=re_pb.DigestFunction.SHA256,
    )
    with pytest.raises(grpc.RpcError) as caught:
        client.results.GetActionResult(lookup)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    last = operations_pb2.Operation()
    for last in client.execution.Execute(
        re_pb.ExecuteRequest(instance_name=client.instance, action_digest=digest)
    ):
        assert last.name
    response = re_pb.ExecuteResponse()
    assert last.done and last.response.Unpack(response)
    assert response.status.code == 0, response.status.message
    (output,) = response.result.output_files
    assert client.read(output.digest) == text.encode()
    assert client.results.GetActionResult(lookup).output_files[0].digest == output.digest
