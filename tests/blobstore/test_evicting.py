"""Eviction: to the low watermark, oldest first, never what is in use."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound, OutOfSpace
from server.blobstore.disk import DiskBlobStore
from server.blobstore.evicting import EvictingBlobStore
from server.blobstore.interface import read_all, write_all
from server.blobstore.vouching import VouchingBlobStore

SHA256 = DigestFunction.SHA256
UNIT = 8192
MAX = 100 * UNIT
PROTECTED = 60.0


class World:
    """A store on disk of at most a hundred blobs, and a clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_000_000.0
        self.count = 0
        self.disk: DiskBlobStore
        self.store: EvictingBlobStore

    async def open(self) -> None:
        self.disk = await DiskBlobStore.open(self.path, durable=False, clock=lambda: self.now)
        self.store = EvictingBlobStore(
            self.disk,
            max_bytes=MAX,
            high=0.9,
            low=0.5,
            protect_seconds=PROTECTED,
            clock=lambda: self.now,
        )

    async def close(self) -> None:
        await self.store.close()
        await self.disk.close()

    async def write(self, units: int = 1) -> Digest:
        data = random.Random(self.count).randbytes(units * UNIT)
        self.count += 1
        self.now += 1
        digest = Digest.of(data, SHA256)
        await write_all(self.store, digest, data)
        return digest

    async def settle(self) -> None:
        await self.store.close()

    def present(self, digests: list[Digest]) -> list[Digest]:
        there = {digest for digest, _, _ in self.disk.uses()}
        return [digest for digest in digests if digest in there]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "store")
    await world.open()
    yield world
    await world.close()


async def test_below_the_high_watermark_nothing_goes(world: World) -> None:
    digests = [await world.write() for _ in range(90)]
    world.now += 1000
    await world.settle()
    assert world.present(digests) == digests


async def test_above_it_the_oldest_go(world: World) -> None:
    digests = [await world.write() for _ in range(90)]
    world.now += 1000
    digests.append(await world.write())
    await world.settle()
    left = world.present(digests)
    assert 48 <= len(left) <= 50
    assert left == digests[-len(left) :]
    assert world.disk.disk_bytes == len(left) * UNIT
    assert len(list((world.path / "cas").rglob("*_*"))) == len(left)
    with pytest.raises(BlobNotFound):
        await read_all(world.store, digests[0])


async def test_what_is_used_stays(world: World) -> None:
    digests = [await world.write() for _ in range(90)]
    world.now += 1000
    await world.store.find_missing([digests[0]])
    await read_all(world.store, digests[1])
    await write_all(world.store, digests[2], b"it is there already")
    digests.append(await world.write())
    await world.settle()
    assert world.present(digests[:3]) == digests[:3]
    assert 48 <= len(world.present(digests)) <= 50


async def test_what_was_vouched_for_is_protected_even_when_that_is_too_much(world: World) -> None:
    vouching = VouchingBlobStore(world.store)
    digests = [await world.write() for _ in range(40)]
    with pytest.raises(OutOfSpace, match="in use"):
        for _ in range(100):
            assert await vouching.find_missing(digests) == set()
            digests.append(await world.write())
            world.now -= 1
    assert world.present(digests) == digests
    assert world.disk.disk_bytes <= MAX
    world.now += PROTECTED + 1
    digests.append(await world.write())
    await world.settle()
    assert digests[-1] in world.present(digests)


async def test_what_was_vouched_for_outlives_what_was_used_later(world: World) -> None:
    vouching = VouchingBlobStore(world.store)
    old = [await world.write() for _ in range(10)]
    assert await vouching.find_missing(old) == set()
    digests = []
    for _ in range(300):
        digests.append(await world.write())
        world.now -= 0.9
    await world.settle()
    assert world.present(old) == old
    assert digests[-1] in world.present(digests)
    assert await read_all(vouching, digests[-1])


async def test_writing_alone_protects_nothing(world: World) -> None:
    """A burst of uploads larger than the store pushes its own beginning out."""
    digests = [await world.write() for _ in range(500)]
    await world.settle()
    assert world.disk.disk_bytes <= MAX
    assert digests[-1] in world.present(digests)


async def test_a_large_blob_waits_for_its_room(world: World) -> None:
    digests = [await world.write() for _ in range(85)]
    world.now += 1000
    large = await world.write(units=80)
    assert large in world.present([large])
    assert world.disk.disk_bytes <= MAX
    assert len(world.present(digests)) <= 20


async def test_a_blob_larger_than_the_store(world: World) -> None:
    with pytest.raises(OutOfSpace, match="larger than the store"):
        await world.write(units=101)


async def test_uploads_under_way_count(world: World) -> None:
    digests = [await world.write() for _ in range(80)]
    world.now += 1000
    data = bytes(15 * UNIT)
    seen = asyncio.Event()
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data
        seen.set()
        await go_on.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(world.store.write(Digest.of(data, SHA256), slowly()))
        await seen.wait()
        await world.settle()
        assert len(world.present(digests)) == 35
        go_on.set()


async def test_a_lie_about_the_size_evicts_nothing(world: World) -> None:
    digests = [await world.write() for _ in range(60)]
    world.now += 1000
    lie = Digest.of(b"x", SHA256)._replace(size=90 * UNIT)
    with pytest.raises(Exception, match="digest"):
        await write_all(world.store, lie, b"x")
    await world.settle()
    assert world.present(digests) == digests


async def test_a_store_that_is_too_large_at_the_start(world: World) -> None:
    digests = []
    for number in range(95):
        data = bytes([number]) * UNIT
        digests.append(Digest.of(data, SHA256))
        await write_all(world.disk, digests[-1], data)
    await world.close()
    await world.open()
    world.now = 1e11
    await world.store.find_missing(digests[:1])
    assert len(world.present(digests)) == 95
    world.store.start_if_needed()
    await world.settle()
    assert len(world.present(digests)) == 50
    assert world.present(digests[:1]) == digests[:1]


async def test_serving_goes_on_while_evicting(world: World) -> None:
    digests = [await world.write() for _ in range(90)]
    world.now += 1000
    keep = digests[-10:]
    assert await VouchingBlobStore(world.store).find_missing(keep) == set()
    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(world.write())
            world.now -= 1
            group.create_task(read_all(world.store, random.choice(keep)))
    await world.settle()
    assert world.present(keep) == keep
