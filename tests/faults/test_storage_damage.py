"""Blobs damaged, cut and lost on the disk: nobody ever gets wrong bytes, and an upload heals."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2
from rounds import chance as seeded_chance
from rounds import rounds
from running import RunningServer, running_server

from remote_apis.client.blobs import BlobSource
from remote_apis.client.rpc_errors import missing_blobs_in
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import MissingBlobs
from remote_apis.resource_names import BlobName
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from tests.worker.world import SHA256, Client, Inputs, client_of

SAMPLE = 15
TWICE = "cat in in > out; echo said"
LOST = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DATA_LOSS}
FUNCTIONS = [DigestFunction.SHA256, DigestFunction.BLAKE3, DigestFunction.SHA512]
pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]


@pytest.fixture
def chance() -> random.Random:
    return seeded_chance()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "data", "--workers", "1") as server:
        yield server


def flip(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(at := chance.randrange(path.stat().st_size))
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def lengthen(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 5000)))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def replace(path: Path, chance: random.Random) -> None:
    """Another file of the same size and time in its place, as a bad restore makes it."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(chance.randbytes(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def hide_time(path: Path, chance: random.Random) -> None:
    """A flipped byte, and the file says that nobody has written to it."""
    status = path.stat()
    flip(path, chance)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    flip, cut, lengthen, delete, replace, hide_time,
]  # fmt: skip


def file_of(server: RunningServer, digest: Digest) -> Path:
    cas = server.data_dir / "blobs" / "cas"
    (found,) = cas.rglob(f"{digest.hash}_{digest.size}")
    return found


def make_blobs(chance: random.Random) -> dict[Digest, bytes]:
    function = chance.choice(FUNCTIONS)
    sizes = [1, *(chance.randrange(2, 5000) for _ in range(4)), chance.randrange(2 << 20, 4 << 20)]
    contents = [chance.randbytes(size) for size in sizes]
    return {Digest.of(data, function): data for data in contents}


async def read(client: Client, digest: Digest, chance: random.Random) -> bytes | grpc.StatusCode:
    """What any client would get, which need not look at the hash: bytes, or a status."""
    if digest.size > 3 << 20 or chance.random() < 0.5:
        name = BlobName(instance="", digest=digest).to_read()
        call = bs_grpc.ByteStreamStub(client.channel).Read(bs_pb.ReadRequest(resource_name=name))
        try:
            return b"".join([part.data async for part in call])
        except grpc.aio.AioRpcError as error:
            return error.code()
    request = re_pb.BatchReadBlobsRequest(
        digests=[digest.to_message()], digest_function=digest.function.name
    )
    stub = re_grpc.ContentAddressableStorageStub(client.channel)
    (answer,) = (await stub.BatchReadBlobs(request, timeout=30)).responses
    if answer.status.code:
        return next(code for code in grpc.StatusCode if code.value[0] == answer.status.code)
    return bytes(answer.data)


async def check(
    client: Client, contents: Mapping[Digest, bytes], damaged: set[Digest], chance: random.Random
) -> None:
    """Damaged ones are lost, all others as they were; afterwards the server knows the lost."""
    order = list(contents)
    chance.shuffle(order)
    for digest in order:
        got = await read(client, digest, chance)
        if digest in damaged:
            assert got in LOST, (digest, got if isinstance(got, grpc.StatusCode) else len(got))
        else:
            assert got == contents[digest], digest
    assert await client.cas.find_missing(contents) == damaged


async def upload(client: Client, contents: Mapping[Digest, bytes]) -> None:
    """Upload without asking first what is there."""
    await client.cas.upload(BlobSource(*item) for item in contents.items())


def damage(
    server: RunningServer, contents: Mapping[Digest, bytes], chance: random.Random
) -> dict[Digest, bytes]:
    """Damage some at random; returns these."""
    chosen = chance.sample(list(contents), chance.randrange(1, len(contents)))
    for digest in chosen:
        how = chance.choice(DAMAGES)
        print(how.__name__, digest)
        how(file_of(server, digest), chance)
    return {digest: contents[digest] for digest in chosen}


async def test_damage_while_the_server_runs(tmp_path: Path, chance: random.Random) -> None:
    with running_server(tmp_path / "data", command="scheduler run") as server:
        async with client_of(server.url) as client:
            for _ in range(rounds(SAMPLE)):
                contents = make_blobs(chance)
                await upload(client, contents)
                if chance.random() < 0.5:
                    await check(client, contents, set(), chance)
                damaged = damage(server, contents, chance)
                if chance.random() < 0.7:
                    await check(client, contents, set(damaged), chance)
                await upload(client, damaged)
                await check(client, contents, set(), chance)


async def test_damage_while_the_server_is_down(tmp_path: Path, chance: random.Random) -> None:
    contents: dict[Digest, bytes] = {}
    damaged: dict[Digest, bytes] = {}
    for _ in range(-(-rounds(SAMPLE) // 5)):
        with running_server(tmp_path / "data", command="scheduler run") as server:
            async with client_of(server.url) as client:
                await check(client, contents, set(damaged), chance)
                await upload(client, damaged)
                await check(client, contents, set(), chance)
                contents = make_blobs(chance)
                await upload(client, contents)
            server.stop(chance.choice([signal.SIGTERM, signal.SIGKILL]))
            damaged = damage(server, contents, chance)


async def test_a_blob_damaged_while_it_is_read(tmp_path: Path, chance: random.Random) -> None:
    """A reader in the middle gets the right bytes or an error, never other bytes."""
    with running_server(tmp_path / "data", command="scheduler run") as server:
        async with client_of(server.url) as client:
            data = chance.randbytes(24 << 20)
            digest = Digest.of(data, SHA256)
            for how in (flip, cut, delete, replace):
                await upload(client, {digest: data})
                name = BlobName(instance="", digest=digest).to_read()
                stub = bs_grpc.ByteStreamStub(client.channel)
                call = stub.Read(bs_pb.ReadRequest(resource_name=name))
                got = bytearray()
                try:
                    async for part in call:
                        if not got:
                            how(file_of(server, digest), chance)
                        got += part.data
                except grpc.aio.AioRpcError as error:
                    assert error.code() in LOST | {grpc.StatusCode.UNAVAILABLE}, error
                    assert data.startswith(got)
                else:
                    assert got == data


async def test_a_result_whose_blobs_are_lost_is_none(
    server: RunningServer, chance: random.Random
) -> None:
    """Once a reader has found it out; then the action runs again, and the result is whole."""
    async with client_of(server.url) as client:
        for how in DAMAGES:
            content = chance.randbytes(3000)
            root = await client.put_inputs(Inputs(files={"in": content}))
            command = re_pb.Command(arguments=["/bin/sh", "-c", TWICE], output_paths=["out"])
            action = await client.put_action(command, root)
            (output,) = (await client.execute(action)).result.output_files
            assert await client.action_cache.get(action) is not None
            digest = Digest.from_message(output.digest, SHA256)
            how(file_of(server, digest), chance)
            assert await read(client, digest, chance) in LOST
            assert await client.action_cache.get(action) is None
            again = await client.execute(action)
            assert not again.cached_result and again.result.exit_code == 0
            assert await client.read(again.result.output_files[0].digest) == content * 2
            assert await client.action_cache.get(action) is not None


@pytest.mark.parametrize("what", ["file", "directory", "command", "action"])
async def test_execute_names_the_damaged_input(
    what: str, server: RunningServer, chance: random.Random
) -> None:
    """In the call's status or the response's: each a FAILED_PRECONDITION that names the blob."""
    async with client_of(server.url) as client:
        for number, how in enumerate(DAMAGES):
            content = chance.randbytes(3000)
            root = await client.put_inputs(Inputs(files={"in": content}))
            command = re_pb.Command(arguments=["/bin/sh", "-c", f"cat in > out{number}"])
            digest = await client.put_action(command, root)
            victims = {
                "file": Digest.of(content, SHA256),
                "directory": root,
                "command": Digest.of(command.SerializeToString(deterministic=True), SHA256),
                "action": digest,
            }
            how(file_of(server, victims[what]), chance)
            try:
                status = (await client.execute(digest)).status
                assert status.code == code_pb2.FAILED_PRECONDITION, status
                assert "worker-1" in status.message
                named = missing_blobs_in(status.details)
            except MissingBlobs as error:
                named = error.digests
            assert named == (victims[what],)
            assert await client.cas.find_missing([victims[what]]) == {victims[what]}
