"""The ActionCache of files: what is read is what was written, or nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.directory import DirectoryActionCache
from server.actioncache.interface import ActionKey

SHA256 = DigestFunction.SHA256


def key(
    text: bytes = b"action", instance: str = "", function: DigestFunction = SHA256
) -> ActionKey:
    return ActionKey(instance, Digest.of(text, function))


def result(name: str = "outputs/x", code: int = 0) -> re_pb.ActionResult:
    """A result with every kind of part."""
    found = re_pb.ActionResult(exit_code=code, stdout_raw=b"root\n", stderr_raw=b"{}\n")
    found.output_files.add(path=name, digest=Digest.of(name.encode(), SHA256).to_message())
    found.execution_metadata.worker = "worker-1"
    return found


@pytest.fixture
def cache(tmp_path: Path) -> DirectoryActionCache:
    return DirectoryActionCache(tmp_path / "results")


async def test_what_was_put_is_got(cache: DirectoryActionCache) -> None:
    assert await cache.get(key()) is None
    await cache.put(key(), result())
    assert await cache.get(key()) == result()


async def test_a_result_is_replaced(cache: DirectoryActionCache) -> None:
    await cache.put(key(), result("a"))
    await cache.put(key(), result("b"))
    assert await cache.get(key()) == result("b")


async def test_removing(cache: DirectoryActionCache) -> None:
    await cache.remove(key())
    await cache.put(key(), result())
    await cache.remove(key())
    assert await cache.get(key()) is None


async def test_results_outlive_the_object(tmp_path: Path) -> None:
    await DirectoryActionCache(tmp_path).put(key(), result())
    assert await DirectoryActionCache(tmp_path).get(key()) == result()


INSTANCES = ["", "_", "main", "a/b", "../../etc", "ü", ".", "a" * 300, "/abs", "A", "a"]


async def test_instances_share_nothing(cache: DirectoryActionCache, tmp_path: Path) -> None:
    for instance in INSTANCES:
        assert await cache.get(key(instance=instance)) is None
        await cache.put(key(instance=instance), result(instance or "empty"))
    for instance in INSTANCES:
        assert await cache.get(key(instance=instance)) == result(instance or "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


async def test_digest_functions_share_nothing(cache: DirectoryActionCache) -> None:
    for function in DigestFunction:
        digest = Digest(function, "ab" * (function.hex_length // 2), 7)
        await cache.put(ActionKey("", digest), result(function.label))
    for function in DigestFunction:
        digest = Digest(function, "ab" * (function.hex_length // 2), 7)
        assert await cache.get(ActionKey("", digest)) == result(function.label)


async def test_the_size_is_part_of_the_key(cache: DirectoryActionCache) -> None:
    hash_ = "ab" * 32
    await cache.put(ActionKey("", Digest(SHA256, hash_, 1)), result())
    assert await cache.get(ActionKey("", Digest(SHA256, hash_, 2))) is None


async def test_a_damaged_file_is_no_result(cache: DirectoryActionCache, tmp_path: Path) -> None:
    """A crash of the machine may leave a file of any length, or of zeros."""
    await cache.put(key(), result())
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = file.read_bytes()
    wrong = []
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        if await cache.get(key()) is not None:
            wrong.append(length)
    file.write_bytes(bytes(len(whole)))
    assert await cache.get(key()) is None
    assert wrong == []
    await cache.put(key(), result())
    assert await cache.get(key()) == result()


async def test_many_writers_leave_one_whole_result(
    cache: DirectoryActionCache, tmp_path: Path
) -> None:
    def write(number: int) -> None:
        other = DirectoryActionCache(tmp_path / "results")
        for _ in range(20):
            asyncio.run(other.put(key(), result(f"{number}" * 2000)))

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(asyncio.to_thread(write, n)) for n in range(4)]
        while not all(writer.done() for writer in writers):
            found = await cache.get(key())
            if found is not None:
                path = found.output_files[0].path
                assert len(path) == 2000
                assert len(set(path)) == 1
            await asyncio.sleep(0)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


async def test_a_failed_put_leaves_nothing(cache: DirectoryActionCache, tmp_path: Path) -> None:
    await cache.put(key(), result())
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.unlink()
    file.mkdir()
    (file / "x").touch()
    with pytest.raises(OSError, match=file.name):
        await cache.put(key(), result())
    assert [path.name for path in file.parent.iterdir()] == [file.name]
