"""The cache of input blobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.errors import MissingBlobs, OutOfSpace
from tests.worker.world import SHA256, World, half_made, open_world
from worker.blob_cache import BlobCache
from worker.cached_file import FIXED_MTIME_NS, CachedFile, parse_name


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


def cache_at(
    path: Path, executor: ThreadPoolExecutor, max_bytes: int = 10**9, boot: str = "b"
) -> BlobCache:
    cache = BlobCache(path, max_bytes=max_bytes, executor=executor, boot_id=boot)
    path.mkdir(exist_ok=True)
    cache.open()
    return cache


async def put(world: World, content: bytes, *, executable: bool = False) -> CachedFile:
    return CachedFile(await world.put(content), executable)


async def test_files_are_sealed_and_stay(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    plain = await put(world, b"x" * 1000)
    large = await put(world, b"y" * 3_000_000)
    both = [plain, plain.twin, large]
    async with cache.hold(both, world.cas):
        for file in both:
            status = cache.path(file).stat()
            assert status.st_mode & 0o777 == (0o555 if file.is_executable else 0o444)
            assert status.st_mtime_ns == FIXED_MTIME_NS
            assert Digest.of(cache.path(file).read_bytes(), SHA256) == file.digest
        assert cache.path(plain).stat().st_ino != cache.path(plain.twin).stat().st_ino
    await world.store.remove([plain.digest, large.digest])
    again = cache_at(tmp_path / "c", executor)
    assert again.size == cache.size == 3_002_000
    async with again.hold(both, world.cas):
        assert all(file in again for file in both)


async def test_what_many_need_at_a_time_is_fetched_once(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    files = [await put(world, b"%d" % n * 1000) for n in range(50)]

    async def use() -> None:
        async with cache.hold(files, world.cas):
            assert all(cache.path(file).exists() for file in files)
            inodes.append(tuple(cache.path(file).stat().st_ino for file in files))

    inodes: list[tuple[int, ...]] = []
    await asyncio.gather(*(use() for _ in range(8)))
    assert len(set(inodes)) == 1


async def test_a_cancelled_fetch_does_not_stop_the_others(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    file = await put(world, b"z" * 5_000_000)

    async def use() -> bytes:
        async with cache.hold([file], world.cas):
            return cache.path(file).read_bytes()

    first = asyncio.create_task(use())
    await asyncio.sleep(0)
    second = asyncio.create_task(use())
    await asyncio.sleep(0.002)
    first.cancel()
    assert len(await second) == 5_000_000
    assert not half_made(tmp_path / "c")


async def test_missing_blobs_are_all_named_and_leave_nothing(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    there = await put(world, b"there")
    gone = [CachedFile(Digest.of(b"gone" * n, SHA256), False) for n in (1, 2, 400_000)]
    with pytest.raises(MissingBlobs) as raised:
        async with cache.hold([there, *gone], world.cas):
            pass
    assert set(raised.value.digests) == {file.digest for file in gone}
    assert not half_made(tmp_path / "c")
    assert not any(path.is_file() for path in (tmp_path / "c" / "files").rglob("*"))
    async with cache.hold([there], world.cas):
        assert there in cache


async def test_the_least_recently_used_go_first_and_never_what_is_held(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor, max_bytes=3000)
    a, b, c, d = [await put(world, bytes([65 + n]) * 1000) for n in range(4)]
    for file in (a, b, c, a):
        async with cache.hold([file], world.cas):
            pass
    async with cache.hold([d], world.cas):
        assert a in cache
        assert b not in cache
        assert not cache.path(b).exists()
    big = await put(world, b"!" * 10_000)
    async with cache.hold([a, big], world.cas), cache.hold([c], world.cas):
        assert a in cache
        assert c in cache
        assert big in cache
    assert cache.size <= 3000


async def test_the_order_of_use_survives_a_restart(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    files = [await put(world, bytes([65 + n]) * 1000) for n in range(3)]
    for number in (0, 1, 2, 0):
        async with cache.hold([files[number]], world.cas):
            cache.link(files[number], f"{tmp_path}/use{len(os.listdir(tmp_path))}")
        await asyncio.sleep(0.03)
    again = cache_at(tmp_path / "c", executor, max_bytes=2000)
    assert [file in again for file in files] == [True, False, True]


async def test_after_a_reboot_nothing_is_trusted(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor, boot="one")
    file = await put(world, b"content")
    async with cache.hold([file], world.cas):
        pass
    assert file in cache_at(tmp_path / "c", executor, boot="one")
    assert file not in cache_at(tmp_path / "c", executor, boot="two")
    assert not cache.path(file).exists()


@pytest.mark.parametrize("damage", ["truncated", "written", "mode", "directory", "junk"])
async def test_damaged_files_are_thrown_away_at_the_start(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path, damage: str
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    file = await put(world, b"content")
    async with cache.hold([file], world.cas):
        pass
    path = cache.path(file)
    if damage == "truncated":
        path.chmod(0o644)
        os.truncate(path, 3)
        path.chmod(0o444)
    elif damage == "written":
        os.utime(path, (1, 1))
    elif damage == "mode":
        path.chmod(0o644)
    elif damage == "directory":
        path.rename(tmp_path / "file")
        path.mkdir()
        (tmp_path / "file").rename(path / path.name)
    else:
        path.rename(path.with_name("junk"))
    again = cache_at(tmp_path / "c", executor)
    assert file not in again
    assert not [name for _, _, names in os.walk(tmp_path / "c" / "files") for name in names]
    async with again.hold([file], world.cas):
        assert again.path(file).read_bytes() == b"content"


async def test_an_altered_file_taints_all_who_hold_it(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    cache = cache_at(tmp_path / "c", executor)
    file, other = await put(world, b"content"), await put(world, b"other")
    async with (
        cache.hold([file], world.cas) as one,
        cache.hold([other], world.cas) as two,
        cache.hold([other], world.cas, watched=[file]) as three,
    ):
        cache.drop([file])
        assert (one.is_tainted, two.is_tainted, three.is_tainted) == (True, False, True)
        assert file not in cache
        async with cache.hold([file], world.cas) as four:
            assert not four.is_tainted
            assert cache.path(file).read_bytes() == b"content"


async def test_more_links_than_the_file_system_allows(
    world: World, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """ext4 allows 65,000 links to an inode; where there is no limit this tests only linking."""
    cache = cache_at(tmp_path / "c", executor)
    file = await put(world, b"linked often", executable=True)
    (tmp_path / "links").mkdir()
    async with cache.hold([file], world.cas):
        for number in range(65_010):
            cache.link(file, f"{tmp_path}/links/{number}")
        last = tmp_path / "links" / "65009"
        assert last.read_bytes() == b"linked often"
        assert file.is_intact(last.stat())


async def test_a_full_disk(world: World, executor: ThreadPoolExecutor, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    assert os.system(f"mount -t tmpfs -o size=1m none {small}") == 0
    try:
        cache = cache_at(small / "c", executor)
        old = await put(world, b"o" * 600_000)
        async with cache.hold([old], world.cas):
            pass
        # Room is made by what nobody holds.
        new = await put(world, b"n" * 700_000)
        async with cache.hold([new], world.cas):
            assert cache.path(new).stat().st_size == 700_000
        large = await put(world, b"l" * 2_000_000)
        with pytest.raises(OutOfSpace):
            async with cache.hold([large], world.cas):
                pass
        assert not half_made(small / "c")
    finally:
        assert os.system(f"umount {small}") == 0


@pytest.mark.parametrize(
    "name", ["", "a", "sha256-00-1-r", "sha256-zz-1-r-x", "none-" + "0" * 64 + "-1-r"]
)
def test_names_of_others_are_not_understood(name: str) -> None:
    assert parse_name(name) is None


def test_names_are_understood() -> None:
    for executable in (False, True):
        file = CachedFile(Digest.of(b"x", SHA256), executable)
        assert parse_name(file.name) == file
