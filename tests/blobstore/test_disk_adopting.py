"""Files that others made, taken into the disk store."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import BlobNotFound
from server.blobstore.interface import read_all, write_all
from tests.blobstore.test_disk_store import damage, file_of, opened


def made(tmp_path: Path, size: int = 5000) -> tuple[Path, Digest, os.stat_result]:
    """A file that somebody made, its digest and its status."""
    path = tmp_path / "made"
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return path, Digest.of(data, DigestFunction.SHA256), path.stat()


@pytest.mark.parametrize("links", [True, False])
async def test_a_file_is_taken(tmp_path: Path, *, links: bool) -> None:
    path, digest, status = made(tmp_path)
    async with opened(tmp_path / "store", durable=False) as store:
        assert await store.adopt(digest, str(path), status, links=links)
        assert await read_all(store, digest) == path.read_bytes()
        assert path.stat().st_nlink == 1 + links
        assert store.disk_bytes > 0
        path.unlink()
        assert store._files._open(digest)[1], "it has to be hashed again"
        assert await store.adopt(digest, "/not/asked/for", status, links=links)
    async with opened(tmp_path / "store", durable=False) as store:
        assert Digest.of(await read_all(store, digest), DigestFunction.SHA256) == digest


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("change", ["written", "replaced", "gone", "a link", "a directory"])
async def test_another_file_than_was_looked_at(tmp_path: Path, change: str, *, links: bool) -> None:
    path, digest, status = made(tmp_path)
    if change == "written":
        os.utime(path, ns=(0, status.st_mtime_ns + 1))
    else:
        path.unlink()
    if change == "replaced":
        path.write_bytes(b"another")
        os.utime(path, ns=(0, status.st_mtime_ns))
    elif change == "a link":
        (tmp_path / "elsewhere").write_bytes(b"another")
        path.symlink_to(tmp_path / "elsewhere")
    elif change == "a directory":
        path.mkdir()
    async with opened(tmp_path / "store", durable=False) as store:
        assert not await store.adopt(digest, str(path), status, links=links)
        assert await store.find_missing([digest]) == {digest}
        assert list((tmp_path / "store" / "tmp").iterdir()) == []


async def test_who_writes_to_the_other_name_loses_the_blob_and_nothing_else(tmp_path: Path) -> None:
    path, digest, status = made(tmp_path)
    async with opened(tmp_path / "store", durable=False) as store:
        await store.adopt(digest, str(path), status, links=True)
        damage(path)
        with pytest.raises(BlobNotFound):
            await store.path_of(digest)


async def test_a_link_of_the_callers(tmp_path: Path) -> None:
    _, digest, _ = made(tmp_path)
    async with opened(tmp_path / "store", durable=False) as store:
        await write_all(store, digest, (tmp_path / "made").read_bytes())
        link = tmp_path / "link"
        link.hardlink_to(await store.path_of(digest))
        os.utime(link)
        store.linked(digest, link.stat())
        assert store._files._open(digest)[1]
        link.unlink()
        assert store._files._open(digest)[1]
        store.linked(digest, (tmp_path / "made").stat())
        assert store._files._open(digest)[1], "of another file nothing is believed"


async def test_times_of_a_file_with_two_names_are_left_alone(tmp_path: Path) -> None:
    path, digest, status = made(tmp_path)
    async with opened(tmp_path / "store", durable=False, clock=lambda: 5.0) as store:
        await store.adopt(digest, str(path), status, links=True)
        await store.find_missing([digest])
        await store.save_uses()
        assert path.stat().st_atime_ns == status.st_atime_ns
        path.unlink()
        await store.find_missing([digest])
        await store.save_uses()
        assert file_of(tmp_path / "store", digest).stat().st_atime_ns == 5_000_000_000
        assert store._files._open(digest)[1]
