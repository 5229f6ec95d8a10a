"""Input roots and paths, without a server around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.tree_builder import TreeBuilder
from server.blobstore.interface import write_all
from server.blobstore.memory import MemoryBlobStore
from server.rpc.execution_checks import ExecutionLimits, normal_path
from server.rpc.execution_inputs import InputRoots

SHA256 = DigestFunction.SHA256


class CountingStore(MemoryBlobStore):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.asked: set[Digest] = set()

    async def find_missing(self, digests: Collection[Digest]) -> set[Digest]:
        self.asked.update(digests)
        return await super().find_missing(digests)

    def open_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> AsyncIterator[bytes]:
        self.reads += 1
        return super().open_read(digest, offset, limit)


async def store_tree(store: MemoryBlobStore, paths: list[str]) -> Digest:
    """An input root with a file at each path, all blobs stored."""
    builder = TreeBuilder(SHA256)
    for path in paths:
        data = path.encode()
        digest = Digest.of(data, SHA256)
        await write_all(store, digest, data)
        builder.add_file(path, digest)
    blobs: dict[Digest, bytes] = {}
    root = builder.build(blobs)
    for digest, data in blobs.items():
        await write_all(store, digest, data)
    return root


async def test_a_complete_root_lacks_nothing_and_every_blob_is_kept_alive() -> None:
    store = CountingStore()
    paths = [f"d{n % 5}/e{n % 3}/f{n}" for n in range(100)]
    root = await store_tree(store, paths)
    assert await InputRoots(store, ExecutionLimits()).missing(root) == []
    assert {Digest.of(path.encode(), SHA256) for path in paths} <= store.asked
    assert root in store.asked


async def test_directories_seen_lately_are_not_read_again() -> None:
    store = CountingStore()
    now = 0.0
    roots = InputRoots(store, ExecutionLimits(verified_for=30), clock=lambda: now)
    first = await store_tree(store, ["common/a/b/c", "one"])
    second = await store_tree(store, ["common/a/b/c", "two"])
    await roots.missing(first)
    before = store.reads
    await roots.missing(second)
    assert store.reads == before + 1  # its own root only
    await roots.missing(first)
    assert store.reads == before + 1
    now = 31.0
    await roots.missing(first)
    assert store.reads == before + 1 + 4


async def test_an_incomplete_root_is_not_remembered() -> None:
    store = CountingStore()
    roots = InputRoots(store, ExecutionLimits())
    root = await store_tree(store, ["a/b", "c"])
    gone = Digest.of(b"a/b", SHA256)
    await store.remove([gone])
    assert await roots.missing(root) == [gone]
    await write_all(store, gone, b"a/b")
    assert await roots.missing(root) == []


async def test_working_directories() -> None:
    store = CountingStore()
    root = await store_tree(store, ["a/b/file", "c"])
    roots = InputRoots(store, ExecutionLimits())
    assert [await roots.has_directory(root, path) for path in ("", "a", "a/b")] == [True] * 3
    assert [await roots.has_directory(root, path) for path in ("c", "d", "a/b/file")] == [False] * 3


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("", "", ""),
        ("", "a/b", "a/b"),
        ("a", "", "a"),
        ("a/b", "../c", "a/c"),
        ("a", "./b/.", "a/b"),
        ("a", "..", ""),
    ],
)
def test_normal_paths(base: str, path: str, expected: str) -> None:
    assert normal_path(base, path, "path") == expected


@given(base=st.sampled_from(["", "a", "a/b"]), path=st.text(alphabet="a./\0", max_size=12))
def test_no_path_leads_out_of_the_input_root(base: str, path: str) -> None:
    try:
        normal = normal_path(base, path, "path")
    except InvalidRequest:
        return
    assert not normal.startswith("/")
    assert all(segment not in ("", ".", "..") for segment in normal.split("/") if normal)
    assert "\0" not in normal
