"""The action cache in SQL beyond the behaviour of every action cache."""

from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey
from server.db.action_results import SqlActionCache
from server.db.engine import Database


def key(number: int) -> ActionKey:
    return ActionKey("", Digest.of(str(number).encode(), DigestFunction.SHA256))


class Clock:
    """Ticks with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def test_the_least_recently_used_results_go(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db")
    cache = SqlActionCache(database, max_entries=30, clock=Clock())
    for number in range(30):
        await cache.put(key(number), re_pb.ActionResult())
    await cache.trim()
    for number in (0, 1, 2):
        assert await cache.get(key(number)) is not None
    for number in range(30, 40):
        await cache.put(key(number), re_pb.ActionResult())
    await cache.trim()
    found = [number for number in range(40) if await cache.get(key(number)) is not None]
    assert found == [0, 1, 2, *range(13, 40)]
    await database.close()


async def test_it_trims_itself(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "db")
    cache = SqlActionCache(database, max_entries=20, clock=Clock())
    for number in range(100):
        await cache.put(key(number), re_pb.ActionResult())
    found = [number for number in range(100) if await cache.get(key(number)) is not None]
    assert 18 <= len(found) <= 24
    assert found[-1] == 99
    await database.close()


async def test_results_and_uses_survive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    database = await Database.open(tmp_path / "db")
    cache = SqlActionCache(database, clock=clock)
    for number in range(5):
        await cache.put(key(number), re_pb.ActionResult(exit_code=number))
    await cache.get(key(0))
    await cache.save_uses()
    await database.close()
    database = await Database.open(tmp_path / "db")
    cache = SqlActionCache(database, max_entries=2, clock=clock)
    assert await cache.trim() == 3
    found = [number for number in range(5) if await cache.get(key(number)) is not None]
    assert found == [0, 4]
    await database.close()
