"""Every leaf and every composition, for the behaviour suite."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.blobstore.disk import DiskBlobStore
from server.blobstore.interface import BlobStore
from server.blobstore.memory import MemoryBlobStore
from server.blobstore.verifying import VerifyingBlobStore

Maker = Callable[[Path, AsyncExitStack], Awaitable[BlobStore]]


async def disk(path: Path, stack: AsyncExitStack) -> DiskBlobStore:
    store = await DiskBlobStore.open(path)
    stack.push_async_callback(store.close)
    return store


async def cache_on_disk(path: Path, stack: AsyncExitStack) -> DiskBlobStore:
    store = await DiskBlobStore.open(path, durable=False, hard_linked=True)
    stack.push_async_callback(store.close)
    return store


async def memory(_path: Path, _stack: AsyncExitStack) -> MemoryBlobStore:
    return MemoryBlobStore()


async def verifying_memory(_path: Path, _stack: AsyncExitStack) -> BlobStore:
    return VerifyingBlobStore(MemoryBlobStore())


async def verifying_disk(path: Path, stack: AsyncExitStack) -> BlobStore:
    return VerifyingBlobStore(await disk(path, stack))


MAKERS: list[Maker] = [disk, cache_on_disk, memory, verifying_memory, verifying_disk]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """A fresh, empty store."""
    async with AsyncExitStack() as stack:
        yield await request.param(tmp_path / "store", stack)
