"""Another store's files, copied into the disk store, whose bytes nobody vouches for."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from small_disk import small_disk

from remote_apis.blob_files import blob_path
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import OutOfSpace
from server.blobstore.interface import read_all, write_all
from tests.blobstore.test_disk_store import damage, file_of, opened

SIZES = (1, 5000, 1 << 20, 3_000_001)


def blob(size: int, function: DigestFunction = DigestFunction.BLAKE3) -> tuple[Digest, bytes]:
    data = random.Random(size).randbytes(size)
    return Digest.of(data, function), data


@pytest.mark.parametrize("function", list(DigestFunction))
async def test_what_one_store_has_another_copies(tmp_path: Path, function: DigestFunction) -> None:
    blobs = dict(blob(size, function) for size in (0, *SIZES))
    absent, _ = blob(77, function)
    theirs = str(tmp_path / "theirs")
    async with opened(Path(theirs)) as store:
        for digest, data in blobs.items():
            await write_all(store, digest, data)
        paths = {digest: blob_path(theirs, digest) for digest in (*blobs, absent)}
        async with opened(tmp_path / "ours", durable=False) as ours:
            assert await ours.copy_in(paths) == {absent}
            assert await ours.copy_in({absent: paths[absent]}) == {absent}
            for digest, data in blobs.items():
                assert await read_all(ours, digest) == data
                if data:
                    assert file_of(tmp_path / "ours", digest).stat().st_nlink == 1
            assert list((tmp_path / "ours" / "tmp").iterdir()) == []


def cut(path: Path) -> None:
    os.truncate(path, 10)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def as_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [damage, cut, grow, as_link, as_directory, as_pipe, os.unlink])
async def test_nothing_else_is_taken(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    (right, data), (wrong, other) = blob(5000), blob(6000)
    (tmp_path / "right").write_bytes(data)
    (tmp_path / "wrong").write_bytes(other)
    spoil(tmp_path / "wrong")
    async with opened(tmp_path / "store", durable=False) as store:
        paths = {digest: str(tmp_path / n) for digest, n in ((wrong, "wrong"), (right, "right"))}
        assert await store.copy_in(paths) == {wrong}
        assert await store.find_missing([right, wrong]) == {wrong}
        assert list((tmp_path / "store" / "tmp").iterdir()) == []


async def test_what_is_there_already_is_not_read(tmp_path: Path) -> None:
    digest, data = blob(5000)
    async with opened(tmp_path / "store", durable=False) as store:
        await write_all(store, digest, data)
        assert await store.copy_in({digest: "/not/asked/for"}) == set()


async def test_whoever_hangs_up_loses_nothing(tmp_path: Path) -> None:
    """What is being copied is there afterwards, or may be copied again; no file is left over."""
    blobs = dict(blob(size) for size in SIZES)
    for digest, data in blobs.items():
        (tmp_path / digest.hash).write_bytes(data)
    paths = {digest: str(tmp_path / digest.hash) for digest in blobs}
    async with opened(tmp_path / "store", durable=False) as store:
        for turns in range(12):
            task = asyncio.create_task(store.copy_in(paths))
            for _ in range(turns):
                await asyncio.sleep(0)
            in_time = task.cancel()  # not when all is copied already, as after many turns it may be
            await asyncio.wait([task])
            assert task.cancelled() or not in_time
        both = await asyncio.gather(store.copy_in(paths), store.copy_in(paths))
        assert list(both) == [set(), set()]
        for digest, data in blobs.items():
            assert await read_all(store, digest) == data
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    assert not any(target.startswith(str(tmp_path)) for target in open_files())


def open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # the one by which we list
    return found


async def test_no_room(tmp_path: Path) -> None:
    (large, data), (small, little) = blob(30 << 20), blob(5000)
    for digest, content in ((large, data), (small, little)):
        (tmp_path / digest.hash).write_bytes(content)
    paths = {digest: str(tmp_path / digest.hash) for digest in (small, large)}
    with small_disk(tmp_path / "disk", megabytes=24) as disk:
        async with opened(disk.seen / "store", durable=False) as store:
            with pytest.raises(OutOfSpace, match=large.hash):
                await store.copy_in(paths)
            assert await store.find_missing([small, large]) == {large}
            assert list((disk.seen / "store" / "tmp").iterdir()) == []
