"""GetTree over trees of all shapes."""

from typing import Any

import grpc
import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import write_all

SHA256 = DigestFunction.SHA256
Directory = re_pb.Directory


async def put(storage: Any, message: Any, function: DigestFunction = SHA256) -> re_pb.Digest:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    digest = Digest.of(data, function)
    await write_all(storage.store, digest, data)
    return digest.to_message()


def parent_of(*children: tuple[str, re_pb.Digest]) -> Directory:
    return Directory(
        directories=[re_pb.DirectoryNode(name=name, digest=digest) for name, digest in children]
    )


def leaf(name: str) -> Directory:
    empty = Digest.of(b"", SHA256).to_message()
    return Directory(files=[re_pb.FileNode(name=name, digest=empty)])


async def pages(storage: Any, root: re_pb.Digest, **fields: Any) -> list[re_pb.GetTreeResponse]:
    request = re_pb.GetTreeRequest(root_digest=root, **fields)
    return [page async for page in storage.cas.GetTree(request)]


async def tree(storage: Any, root: re_pb.Digest, **fields: Any) -> list[Directory]:
    return [each for page in await pages(storage, root, **fields) for each in page.directories]


async def refusal(storage: Any, root: re_pb.Digest, **fields: Any) -> tuple[Any, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pages(storage, root, **fields)
    return caught.value.code(), caught.value.details() or ""


def texts(directories: list[Directory]) -> list[bytes]:
    return sorted(each.SerializeToString() for each in directories)


async def wide_tree(storage: Any, count: int) -> tuple[re_pb.Digest, list[Directory]]:
    leaves = [leaf(f"f{number}") for number in range(count)]
    named = [(f"d{number:05}", await put(storage, each)) for number, each in enumerate(leaves)]
    root = parent_of(*named)
    return await put(storage, root), [root, *leaves]


async def test_everything_below_the_root(storage: Any) -> None:
    low, other = leaf("low"), leaf("other")
    middle = parent_of(("low", await put(storage, low)))
    root = parent_of(("a", await put(storage, middle)), ("b", await put(storage, other)))
    found = await tree(storage, await put(storage, root))
    assert found[0] == root
    assert texts(found) == texts([root, middle, low, other])


@pytest.mark.parametrize("function", [DigestFunction.BLAKE3, DigestFunction.SHA1])
async def test_other_digest_functions(storage: Any, function: DigestFunction) -> None:
    low = Directory(symlinks=[re_pb.SymlinkNode(name="x", target="../y")])
    root = parent_of(("low", await put(storage, low, function)))
    digest = await put(storage, root, function)
    assert await tree(storage, digest, digest_function=function.number) == [root, low]


async def test_the_empty_directory(storage: Any) -> None:
    assert await tree(storage, Digest.of(b"", SHA256).to_message()) == [Directory()]


@pytest.mark.row(51)
async def test_an_absent_root(storage: Any) -> None:
    code, _ = await refusal(storage, Digest.of(b"absent", SHA256).to_message())
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.row(52)
async def test_missing_subtrees_are_left_out(storage: Any) -> None:
    there = leaf("there")
    absent = Digest.of(b"absent", SHA256).to_message()
    root = parent_of(("a", absent), ("b", await put(storage, there)), ("c", absent))
    assert await tree(storage, await put(storage, root)) == [root, there]


@pytest.mark.row(53)
@pytest.mark.row(54)
@pytest.mark.parametrize("page_size", [1, 3, 7, 20, 21, 22, 1_000_000])
async def test_pages(storage: Any, page_size: int) -> None:
    digest, directories = await wide_tree(storage, 20)
    found = await pages(storage, digest, page_size=page_size)
    assert all(0 < len(page.directories) <= page_size for page in found)
    assert all(page.next_page_token for page in found[:-1])
    assert found[-1].next_page_token == ""
    assert texts([each for page in found for each in page.directories]) == texts(directories)


@pytest.mark.row(54)
async def test_a_token_resumes_after_its_page(storage: Any) -> None:
    digest, _ = await wide_tree(storage, 20)
    whole = await pages(storage, digest, page_size=4)
    for number, page in enumerate(whole[:-1]):
        rest = await pages(storage, digest, page_size=4, page_token=page.next_page_token)
        assert rest == whole[number + 1 :]


@pytest.mark.parametrize("token", ["x", "5", ":", "deadbeef:1"])
async def test_bad_tokens(storage: Any, token: str) -> None:
    digest, _ = await wide_tree(storage, 3)
    code, message = await refusal(storage, digest, page_token=token)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "token" in message
    for token in (f"{digest.hash}:99", f"{digest.hash}:-1", f"{digest.hash}:" + "9" * 99):
        assert (await refusal(storage, digest, page_token=token))[0] is code


async def test_a_negative_page_size(storage: Any) -> None:
    code, _ = await refusal(storage, Digest.of(b"", SHA256).to_message(), page_size=-1)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_exponentially_shared_tree(storage: Any) -> None:
    """2^60 paths, 61 directories: each comes once."""
    below = await put(storage, leaf("bottom"))
    for _ in range(60):
        below = await put(storage, parent_of(("left", below), ("right", below)))
    assert len(await tree(storage, below)) == 61


async def test_a_deep_tree(storage: Any) -> None:
    below = await put(storage, leaf("bottom"))
    for _ in range(2000):
        below = await put(storage, parent_of(("d", below)))
    assert len(await tree(storage, below)) == 2001


async def test_pages_fit_into_default_messages(storage: Any) -> None:
    empty = Digest.of(b"", SHA256).to_message()
    large = [
        Directory(files=[re_pb.FileNode(name=f"{n}_{i}", digest=empty) for i in range(9000)])
        for n in range(5)
    ]
    named = [(str(number), await put(storage, each)) for number, each in enumerate(large)]
    found = await pages(storage, await put(storage, parent_of(*named)))
    assert len(found) > 1
    assert max(page.ByteSize() for page in found) < 2 * 1024 * 1024


EMPTY = Digest.of(b"", SHA256).to_message()


@pytest.mark.row(4)
@pytest.mark.parametrize(
    ("root", "complaint"),
    [
        (b"\xff\xff not a message", "Directory"),
        (parent_of(("..", EMPTY)), "name"),
        (parent_of((".", EMPTY)), "name"),
        (parent_of(("a/b", EMPTY)), "name"),
        (parent_of(("", EMPTY)), "name"),
        (parent_of(("a\0", EMPTY)), "name"),
        (parent_of(("a", EMPTY), ("a", EMPTY)), "two entries"),
        (parent_of(("a", re_pb.Digest(hash="abc", size_bytes=1))), "hash"),
        (parent_of(("a", re_pb.Digest(hash=EMPTY.hash, size_bytes=-1))), "size"),
        (Directory(symlinks=[re_pb.SymlinkNode(name="a")]), "target"),
    ],
)
async def test_what_is_no_directory(storage: Any, root: Any, complaint: str) -> None:
    digest = await put(storage, root)
    for asked in (digest, await put(storage, parent_of(("below", digest)))):
        code, message = await refusal(storage, asked)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert complaint in message
