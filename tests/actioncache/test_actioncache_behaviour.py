"""What every ActionCache does, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.completeness import CompletenessCheckingActionCache
from server.actioncache.directory import DirectoryActionCache
from server.actioncache.interface import ActionCache, ActionKey
from server.actioncache.memory import MemoryActionCache
from server.actioncache.read_caching import ReadCachingActionCache
from server.blobstore.memory import MemoryBlobStore
from server.db.action_results import SqlActionCache
from server.db.engine import Database

Maker = Callable[[Path, AsyncExitStack], Awaitable[ActionCache]]


async def memory(_path: Path, _stack: AsyncExitStack) -> ActionCache:
    return MemoryActionCache()


async def directory(path: Path, _stack: AsyncExitStack) -> ActionCache:
    return DirectoryActionCache(path)


async def sql(path: Path, stack: AsyncExitStack) -> ActionCache:
    database = await Database.open(path / "db")
    stack.push_async_callback(database.close)
    return SqlActionCache(database)


async def memory_before_sql(path: Path, stack: AsyncExitStack) -> ActionCache:
    return ReadCachingActionCache(near=MemoryActionCache(max_entries=3), far=await sql(path, stack))


async def complete(path: Path, stack: AsyncExitStack) -> ActionCache:
    return CompletenessCheckingActionCache(await memory_before_sql(path, stack), MemoryBlobStore())


@pytest.fixture(
    params=[memory, directory, sql, memory_before_sql, complete], ids=lambda maker: maker.__name__
)
async def cache(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ActionCache]:
    async with AsyncExitStack() as stack:
        yield await request.param(tmp_path, stack)


def key(
    data: bytes = b"action", instance: str = "", function: DigestFunction = DigestFunction.SHA256
) -> ActionKey:
    return ActionKey(instance, Digest.of(data, function))


def result(exit_code: int = 0) -> re_pb.ActionResult:
    return re_pb.ActionResult(exit_code=exit_code, stdout_raw=b"hello")


@pytest.mark.row(63)
async def test_what_is_not_there(cache: ActionCache) -> None:
    assert await cache.get(key()) is None
    await cache.remove(key())


async def test_what_was_put_comes_back(cache: ActionCache) -> None:
    await cache.put(key(), result())
    assert await cache.get(key()) == result()


async def test_the_last_one_wins(cache: ActionCache) -> None:
    for exit_code in (1, 2, 3):
        await cache.put(key(), result(exit_code))
    assert await cache.get(key()) == result(3)


async def test_what_was_removed_is_gone(cache: ActionCache) -> None:
    await cache.put(key(), result())
    await cache.remove(key())
    assert await cache.get(key()) is None


async def test_changing_what_came_back_changes_nothing(cache: ActionCache) -> None:
    await cache.put(key(), result())
    found = await cache.get(key())
    assert found is not None
    found.exit_code = 99
    assert await cache.get(key()) == result()


async def test_keys_are_apart_in_every_part(cache: ActionCache) -> None:
    digest = key().digest
    keys = [
        key(),
        key(b"other"),
        key(instance="main"),
        key(instance="main/sub"),
        key(instance="mäin"),
        key(function=DigestFunction.BLAKE3),
        key(function=DigestFunction.SHA256TREE),  # has the same hash for so few bytes
        ActionKey("", digest._replace(size=digest.size + 1)),
    ]
    for exit_code, each in enumerate(keys):
        await cache.put(each, result(exit_code))
    found = [await cache.get(each) for each in keys]
    assert found == [result(exit_code) for exit_code in range(len(keys))]


async def test_many_at_a_time(cache: ActionCache) -> None:
    keys = [key(bytes([number])) for number in range(100)]
    await asyncio.gather(*(cache.put(each, result(n)) for n, each in enumerate(keys)))
    found = await asyncio.gather(*(cache.get(each) for each in keys))
    assert list(found) == [result(number) for number in range(100)]
