"""Blobs come from a server by the network, or from its directory where that can be read."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remote_apis.blob_files import DIRECTORY_HEADER, blob_path
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound, MissingBlobs
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from server.actioncache.directory import DirectoryActionCache
from server.blobstore.disk import DiskBlobStore
from server.blobstore.interface import write_all
from server.rpc.terms import Terms
from tests.rpc.storage_server import Storage, start_storage
from tests.wrapper.test_remotes import serving
from wrapper.fetching import fetch_blobs
from wrapper.local_tier import LocalTier
from wrapper.meter import start_meter
from wrapper.remote import Remote

SIZES = (1, 70_000, 1 << 20, (1 << 20) + 1, 3_000_000)
BLOBS = {
    Digest.of(data, DigestFunction.BLAKE3): data
    for data in (random.Random(size).randbytes(size) for size in SIZES)
}


class Told(re_grpc.CapabilitiesServicer):
    """A server that has nothing but a word about a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: Any
    ) -> re_pb.ServerCapabilities:
        await context.send_initial_metadata(((DIRECTORY_HEADER, bytes(self._directory)),))
        return re_pb.ServerCapabilities()


@asynccontextmanager
async def tier(directory: Path) -> AsyncIterator[LocalTier]:
    store = await DiskBlobStore.open(directory, durable=False)
    try:
        yield LocalTier(store, store, DirectoryActionCache(directory / "results"), lambda: None)
    finally:
        await store.close()


async def fetched(url: str, home: Path) -> dict[Digest, bytes]:
    """What a new user has after fetching everything. Raises what fetching raises."""
    remote = Remote(url, "", DigestFunction.BLAKE3)
    try:
        await remote.learn_function()
        async with tier(home) as local:
            meter = start_meter(lambda: None)
            await fetch_blobs(local, remote, BLOBS)
            assert meter.downloaded == sum(SIZES)
            return {digest: await local.read(digest) for digest in BLOBS}
    finally:
        await remote.close()


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    """A whole server that has the blobs."""
    async with AsyncExitStack() as stack:
        started = await start_storage(stack, tmp_path / "server", Terms())
        for digest, data in BLOBS.items():
            await write_all(started.store, digest, data)
        yield started


async def test_from_the_directory_nothing_is_asked_for(storage: Storage, tmp_path: Path) -> None:
    async with serving(Told(storage.path / "blobs")) as url:
        assert await fetched(url, tmp_path / "home") == BLOBS


async def test_from_the_server_on_this_machine(storage: Storage, tmp_path: Path) -> None:
    assert await fetched(f"grpc://127.0.0.1:{storage.port}", tmp_path / "home") == BLOBS


def absent(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("spoil", [absent, damaged])
async def test_what_is_not_right_in_the_directory_comes_by_the_network(
    storage: Storage, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """The directory may be another's, of the same name."""
    other = tmp_path / "other"
    async with tier(other) as theirs:
        await theirs.store_all(BLOBS)
    for digest in list(BLOBS)[::2]:
        spoil(Path(blob_path(str(other), digest)))
    async with AsyncExitStack() as stack:
        started = await start_storage(
            stack, tmp_path / "second", Terms(), blob_directory=str(other)
        )
        for digest, data in BLOBS.items():
            await write_all(started.store, digest, data)
        assert await fetched(f"grpc://127.0.0.1:{started.port}", tmp_path / "home") == BLOBS


async def test_a_server_elsewhere_has_no_say_about_directories(tmp_path: Path) -> None:
    async with serving(Told(tmp_path)) as url:
        for address, is_here in ((url, True), (url.replace("127.0.0.1", "0.0.0.0"), False)):
            remote = Remote(address, "", DigestFunction.BLAKE3)
            try:
                await remote.learn_function()
                assert remote.blob_directory == (str(tmp_path) if is_here else None)
            finally:
                await remote.close()


async def test_what_nobody_has(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        started = await start_storage(stack, tmp_path / "server", Terms())
        with pytest.raises((BlobNotFound, MissingBlobs)):
            await fetched(f"grpc://127.0.0.1:{started.port}", tmp_path / "home")
