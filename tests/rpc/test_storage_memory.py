"""Memory stays flat, whatever passes through."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import zstandard

from remote_apis.compression import Compressor
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.resource_names import BlobName
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc

SHA256 = DigestFunction.SHA256
MIB = 1024 * 1024
STREAMS = 16
BLOB_MIB = 40


class Server:
    """The storage services in a process of their own."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.rpc.storage_server", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def memory(self, what: str = "VmRSS") -> int:
        """MiB of the process; VmHWM is the most it ever had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) // 1024
        raise AssertionError("no such line")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.process.communicate(timeout=30)


def chunk(number: int, position: int) -> bytes:
    return f"{number:04}{position:04}".encode() * (MIB // 8)


def digest_of(number: int) -> Digest:
    hasher = SHA256.hasher(0)
    for position in range(BLOB_MIB):
        hasher.update(chunk(number, position))
    return Digest(SHA256, hasher.hexdigest(), BLOB_MIB * MIB)


async def write(channel: Any, number: int, digest: Digest, compressor: Compressor) -> None:
    name = BlobName(instance="", digest=digest, compressor=compressor).to_write(f"u{number}")

    async def requests() -> AsyncIterator[bs_pb.WriteRequest]:
        stream = zstandard.ZstdCompressor().compressobj()
        offset = 0
        for position in range(BLOB_MIB):
            data = chunk(number, position)
            if compressor is Compressor.ZSTD:
                data = stream.compress(data)
                if position == BLOB_MIB - 1:
                    data += stream.flush()
            last = position == BLOB_MIB - 1
            yield bs_pb.WriteRequest(
                resource_name=name, write_offset=offset, data=data, finish_write=last
            )
            offset += len(data)

    await bs_grpc.ByteStreamStub(channel).Write(requests())


async def read_slowly(channel: Any, digest: Digest, compressor: Compressor) -> None:
    name = BlobName(instance="", digest=digest, compressor=compressor).to_read()
    async for _ in bs_grpc.ByteStreamStub(channel).Read(bs_pb.ReadRequest(resource_name=name)):
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("compressor", [Compressor.IDENTITY, Compressor.ZSTD])
async def test_sixteen_streams_at_once(server: Server, compressor: Compressor) -> None:
    digests = [digest_of(number) for number in range(STREAMS)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        before = server.memory()
        await asyncio.gather(
            *(write(channel, n, digest, compressor) for n, digest in enumerate(digests))
        )
        await asyncio.gather(*(read_slowly(channel, digest, compressor) for digest in digests))
        assert server.memory("VmHWM") - before < 200


async def test_get_tree_of_a_shared_tree(server: Server) -> None:
    options = (("grpc.max_receive_message_length", -1),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        cas = re_grpc.ContentAddressableStorageStub(channel)
        empty = Digest.of(b"", SHA256).to_message()
        directory = re_pb.Directory()
        for number in range(500):
            directory.files.add(name=f"{number:06}", digest=empty)
        levels = []
        for _ in range(50):
            data = directory.SerializeToString()
            below = Digest.of(data, SHA256).to_message()
            levels.append(re_pb.BatchUpdateBlobsRequest.Request(digest=below, data=data))
            directory = re_pb.Directory()
            for number in range(500):
                directory.directories.add(name=f"{number:06}", digest=below)
        await cas.BatchUpdateBlobs(re_pb.BatchUpdateBlobsRequest(requests=levels))
        before = server.memory()
        pages = [page async for page in cas.GetTree(re_pb.GetTreeRequest(root_digest=below))]
        assert sum(len(page.directories) for page in pages) == 50
        assert server.memory("VmHWM") - before < 100
