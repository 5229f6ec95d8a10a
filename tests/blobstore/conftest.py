"""Every leaf and every composition, for the behaviour suite."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.blobstore.disk import DiskBlobStore
from server.blobstore.evicting import EvictingBlobStore
from server.blobstore.existence_caching import ExistenceCachingBlobStore
from server.blobstore.interface import BlobStore
from server.blobstore.memory import MemoryBlobStore
from server.blobstore.read_caching import ReadCachingBlobStore
from server.blobstore.size_splitting import SizeSplittingBlobStore
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


async def disk_in_threads(path: Path, stack: AsyncExitStack) -> DiskBlobStore:
    store = await DiskBlobStore.open(path, durable=False, in_threads=True)
    stack.push_async_callback(store.close)
    return store


async def memory(_path: Path, _stack: AsyncExitStack) -> MemoryBlobStore:
    return MemoryBlobStore()


async def verifying_memory(_path: Path, _stack: AsyncExitStack) -> BlobStore:
    return VerifyingBlobStore(MemoryBlobStore())


async def verifying_disk(path: Path, stack: AsyncExitStack) -> BlobStore:
    return VerifyingBlobStore(await disk(path, stack))


async def evicting_disk(path: Path, stack: AsyncExitStack) -> BlobStore:
    store = EvictingBlobStore(await disk(path, stack), max_bytes=100_000_000)
    stack.push_async_callback(store.close)
    return store


async def existence_caching_memory(_path: Path, _stack: AsyncExitStack) -> BlobStore:
    return ExistenceCachingBlobStore(MemoryBlobStore())


async def memory_before_disk(path: Path, stack: AsyncExitStack) -> BlobStore:
    return ReadCachingBlobStore(near=MemoryBlobStore(), far=await disk(path, stack))


async def full_memory_before_disk(path: Path, stack: AsyncExitStack) -> BlobStore:
    return ReadCachingBlobStore(near=MemoryBlobStore(max_bytes=1), far=await disk(path, stack))


async def small_in_memory_large_on_disk(path: Path, stack: AsyncExitStack) -> BlobStore:
    large = await disk(path, stack)
    return SizeSplittingBlobStore(small=MemoryBlobStore(), large=large, threshold=600)


async def as_in_production(path: Path, stack: AsyncExitStack) -> BlobStore:
    far = VerifyingBlobStore(await evicting_disk(path / "far", stack))
    near = await cache_on_disk(path / "near", stack)
    return ExistenceCachingBlobStore(ReadCachingBlobStore(near=near, far=far))


MAKERS: list[Maker] = [
    disk,
    cache_on_disk,
    disk_in_threads,
    memory,
    verifying_memory,
    verifying_disk,
    evicting_disk,
    existence_caching_memory,
    memory_before_disk,
    full_memory_before_disk,
    small_in_memory_large_on_disk,
    as_in_production,
]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """A fresh, empty store."""
    async with AsyncExitStack() as stack:
        yield await request.param(tmp_path / "store", stack)
