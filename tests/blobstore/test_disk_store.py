"""What the disk store does beyond the behaviour of every store."""

import asyncio
import os
import random
import resource
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound, OutOfSpace, Unavailable
from server.blobstore.disk import DiskBlobStore
from server.blobstore.interface import read_all, reading, write_all

SHA256 = DigestFunction.SHA256


def blob(size: int = 5000, seed: int = 0) -> tuple[Digest, bytes]:
    data = random.Random(f"{size} {seed}").randbytes(size)
    return Digest.of(data, SHA256), data


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[DiskBlobStore]:
    store = await DiskBlobStore.open(path, **options)
    try:
        yield store
    finally:
        await store.close()


def file_of(root: Path, digest: Digest) -> Path:
    name = f"{digest.hash}_{digest.size}"
    return root / "cas" / digest.function.label / digest.hash[:2] / name


def damage(path: Path, *, keep_times: bool = False) -> None:
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))
    if keep_times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_blobs_survive_a_restart(tmp_path: Path) -> None:
    blobs = [
        (Digest.of(f"{number}".encode(), function), f"{number}".encode())
        for number in range(5)
        for function in DigestFunction
    ]
    async with opened(tmp_path) as store:
        for digest, data in blobs:
            await write_all(store, digest, data)
    async with opened(tmp_path) as store:
        assert await store.find_missing([digest for digest, _ in blobs]) == set()
        for digest, data in blobs:
            assert await read_all(store, digest) == data


async def test_two_stores_never_share_a_directory(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(Unavailable, match="in use by another process"):
            await DiskBlobStore.open(tmp_path)
    async with opened(tmp_path):
        pass


@pytest.mark.parametrize("keep_times", [False, True])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_damaged_file_is_never_served(
    tmp_path: Path, keep_times: bool, restart: bool
) -> None:
    digest, data = blob()
    store = await DiskBlobStore.open(tmp_path)
    await write_all(store, digest, data)
    if restart:
        await store.close()
    damage(file_of(tmp_path, digest), keep_times=keep_times)
    if restart:
        store = await DiskBlobStore.open(tmp_path)
    with pytest.raises(BlobNotFound):
        await read_all(store, digest)
    assert await store.find_missing([digest]) == {digest}
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
    await write_all(store, digest, data)
    assert await read_all(store, digest) == data
    await store.close()


async def test_many_readers_of_a_damaged_file(tmp_path: Path) -> None:
    digest, data = blob()
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        damage(file_of(tmp_path, digest))
        answers = await asyncio.gather(
            *(read_all(store, digest) for _ in range(20)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {BlobNotFound}


async def test_writing_over_a_damaged_file_repairs_it(tmp_path: Path) -> None:
    digest, data = blob()
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        damage(file_of(tmp_path, digest))
        await write_all(store, digest, data)
        assert await read_all(store, digest) == data


async def test_a_removed_file_is_noticed_when_read(tmp_path: Path) -> None:
    digest, data = blob()
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        file_of(tmp_path, digest).unlink()
        with pytest.raises(BlobNotFound):
            await read_all(store, digest)
        assert await store.find_missing([digest]) == {digest}
        assert store.disk_bytes == 0
        await write_all(store, digest, data)
        file_of(tmp_path, digest).unlink()
        await write_all(store, digest, data)
        assert await read_all(store, digest) == data


async def test_a_removed_directory_is_made_again(tmp_path: Path) -> None:
    digest, data = blob()
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        file_of(tmp_path, digest).unlink()
        file_of(tmp_path, digest).parent.rmdir()
        await write_all(store, digest, data)
        assert await read_all(store, digest) == data


async def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    digest, data = blob(3_000_000)
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        with pytest.raises(Unavailable):
            async with reading(store, digest) as chunks:
                await anext(chunks)
                damage(file_of(tmp_path, digest))
                async for _ in chunks:
                    pass


async def test_nothing_is_left_of_failed_writes(tmp_path: Path) -> None:
    digest, data = blob(3_000_000)

    async def breaking() -> AsyncIterator[bytes]:
        yield data[:1_000_000]
        raise ConnectionResetError

    async with opened(tmp_path) as store:
        with pytest.raises(ConnectionResetError):
            await store.write(digest, breaking())
        with pytest.raises(Exception, match="digest"):
            await write_all(store, digest, data[1:])
        assert list((tmp_path / "tmp").iterdir()) == []
        assert store.disk_bytes == 0


async def test_leftovers_of_a_crash_are_cleared(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    (tmp_path / "tmp" / "half").write_bytes(b"x")
    (tmp_path / "tmp" / "directory").mkdir()
    async with opened(tmp_path):
        assert list((tmp_path / "tmp").iterdir()) == []


async def test_files_that_are_no_blobs_are_ignored(tmp_path: Path) -> None:
    digest, data = blob()
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
    directory = file_of(tmp_path, digest).parent
    (directory / "README").write_text("hello")
    (directory / f"{digest.hash}_x").write_text("hello")
    (directory / f"{digest.hash[1:]}_5").write_text("hello")
    (directory / f"{digest.hash}_7").symlink_to("README")
    (tmp_path / "cas" / "sha3").mkdir()
    async with opened(tmp_path) as store:
        assert await read_all(store, digest) == data
        assert [found for found, _, _ in store.uses()] == [digest]


@pytest.mark.parametrize("torn", [b"", b"\0" * 5000, b"\0" * 4999])
async def test_a_torn_file_after_a_crash_counts_as_missing(tmp_path: Path, torn: bytes) -> None:
    (digest, data), (other, other_data) = blob(), blob(seed=1)
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        await write_all(store, other, other_data)
    (tmp_path / "clean").unlink()
    path = file_of(tmp_path, digest)
    path.unlink()
    path.write_bytes(torn)
    async with opened(tmp_path) as store:
        assert await store.find_missing([digest, other]) == {digest}


async def test_the_order_of_uses_survives_a_restart(tmp_path: Path) -> None:
    blobs = [blob(seed=seed) for seed in range(5)]
    now = 1_000_000_000.0

    def clock() -> float:
        nonlocal now
        now += 10
        return now

    async with opened(tmp_path, clock=clock) as store:
        for digest, data in blobs:
            await write_all(store, digest, data)
        await store.find_missing([blobs[3][0]])
        await read_all(store, blobs[1][0])
        for digest in (blobs[0][0], blobs[4][0], blobs[2][0]):
            await store.find_missing([digest])
        await store.save_uses()
        before = [digest for digest, _, _ in store.uses()]
        # Saving uses is not taken for tampering: nothing is hashed again.
        for digest, _ in blobs:
            assert store._files._open(digest)[1]
    assert before == [blobs[number][0] for number in (3, 1, 0, 4, 2)]
    for path in (tmp_path / "cas").rglob("*_*"):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, 0))  # the modification times are all later
    async with opened(tmp_path, clock=clock) as store:
        assert [digest for digest, _, _ in store.uses()] == before


async def test_disk_bytes_are_those_of_the_file_system(tmp_path: Path) -> None:
    digest, data = blob(10_001)
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        await write_all(store, digest, data)
        assert store.disk_bytes == file_of(tmp_path, digest).stat().st_blocks * 512
        used = store.disk_bytes
        await store.remove([digest])
        assert store.disk_bytes == 0
        assert not file_of(tmp_path, digest).exists()
        await write_all(store, digest, data)
    async with opened(tmp_path) as store:
        assert store.disk_bytes == used


async def test_a_reader_is_not_disturbed_by_removal(tmp_path: Path) -> None:
    digest, data = blob(3_000_000)
    async with opened(tmp_path) as store:
        await write_all(store, digest, data)
        async with reading(store, digest) as chunks:
            parts = [await anext(chunks)]
            await store.remove([digest])
            parts += [chunk async for chunk in chunks]
        assert b"".join(parts) == data
        assert await store.find_missing([digest]) == {digest}


@pytest.mark.parametrize("hard_linked", [True, False])
async def test_files_for_linking(tmp_path: Path, hard_linked: bool) -> None:
    digest, data = blob()
    async with opened(tmp_path / "store", hard_linked=hard_linked) as store:
        await write_all(store, digest, data)
        path = await store.path_of(digest)
        (tmp_path / "link").hardlink_to(path)
        assert (tmp_path / "link").read_bytes() == data
        assert not path.stat().st_mode & 0o222
        assert store._files._open(digest)[1] is hard_linked  # is it hashed again?
        assert await store.path_of(digest) == path
        empty = await store.path_of(Digest.of(b"", SHA256))
        assert empty.read_bytes() == b""
        (tmp_path / "link").chmod(0o644)
        (tmp_path / "link").write_bytes(b"spoilt through the link")
        with pytest.raises(BlobNotFound):
            await store.path_of(digest)


async def test_a_full_disk_is_out_of_space(tmp_path: Path) -> None:
    """A limit on file size makes the system call fail as a full disk would."""
    digest, data = blob(200_000)
    async with opened(tmp_path, durable=False) as store:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(OutOfSpace):
                await write_all(store, digest, data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list((tmp_path / "tmp").iterdir()) == []
        await write_all(store, digest, data)
        assert await read_all(store, digest) == data


async def test_a_cancelled_commit_goes_on(tmp_path: Path) -> None:
    blobs = [blob(seed=seed) for seed in range(30)]
    async with opened(tmp_path) as store:
        writes = [asyncio.ensure_future(write_all(store, d, data)) for d, data in blobs]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
    async with opened(tmp_path) as store:
        for digest, data in blobs:
            if not await store.find_missing([digest]):
                assert await read_all(store, digest) == data


KILLED = """
    import asyncio, os, sys
    from pathlib import Path
    from remote_apis.digest import Digest
    from remote_apis.digest_functions import DigestFunction
    from server.blobstore.disk import DiskBlobStore
    from server.blobstore.interface import write_all

    async def main():
        store = await DiskBlobStore.open(Path(sys.argv[1]))

        async def one(number):
            data = str(number).encode() * 500
            await write_all(store, Digest.of(data, DigestFunction.SHA256), data)
            os.write(1, f"{number}\\n".encode())
            if number == 60:
                os.kill(os.getpid(), 9)

        await asyncio.gather(*(one(number) for number in range(200)))

    asyncio.run(main())
"""


async def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    acknowledged = [int(line) for line in done.stdout.splitlines()]
    assert 60 in acknowledged
    async with opened(tmp_path) as store:
        for number in acknowledged:
            data = str(number).encode() * 500
            assert await read_all(store, Digest.of(data, SHA256)) == data
        for digest, _, _ in list(store.uses()):
            await read_all(store, digest)  # nothing half written is there
