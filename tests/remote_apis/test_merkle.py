"""Directories and Trees: canonical form, checks, and reading Trees piece by piece."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.merkle import (
    build_tree,
    check_directory,
    check_entries,
    check_name,
    directories_of_tree,
    parse_directory,
)
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

SHA256 = DigestFunction.SHA256
EMPTY = Digest.of(b"", SHA256).to_message()
Directory = re_pb.Directory
FILE, DIR, LINK = re_pb.FileNode, re_pb.DirectoryNode, re_pb.SymlinkNode
PROPERTY = re_pb.NodeProperty


def files(*names: str) -> Directory:
    return Directory(files=[FILE(name=name, digest=EMPTY) for name in names])


def digest_of(directory: Directory) -> re_pb.Digest:
    return Digest.of(directory.SerializeToString(deterministic=True), SHA256).to_message()


@pytest.mark.row(5)
@given(st.sets(st.text(min_size=1), max_size=8))
def test_names_sort_by_their_bytes(texts: set[str]) -> None:
    names = [text for text in texts if "/" not in text and "\0" not in text and text.strip(".")]
    try:
        ordered = sorted(names, key=lambda name: name.encode())
    except UnicodeEncodeError:
        return
    check_directory(files(*ordered), SHA256)
    if len(ordered) > 1:
        with pytest.raises(InvalidRequest, match="sorted"):
            check_directory(files(*reversed(ordered)), SHA256)
        check_entries(files(*reversed(ordered)), SHA256)


@pytest.mark.row(5)
def test_bytes_and_not_code_units_decide() -> None:
    check_directory(files("\ue000", "\U00010000"), SHA256)


@pytest.mark.row(4)
@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "/a", "a/", "\0", "a\0b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_name(name)
    with pytest.raises(InvalidRequest):
        check_directory(files(name), SHA256)


@pytest.mark.row(4)
@pytest.mark.parametrize("name", ["...", ".a", "a b", "\n", "ä", "~", "-", "con"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.row(4)
@pytest.mark.row(5)
@pytest.mark.row(6)
@pytest.mark.parametrize(
    "directory",
    [
        files("a", "a"),
        Directory(files=[FILE(name="a", digest=EMPTY)], symlinks=[LINK(name="a", target="b")]),
        Directory(directories=[DIR(name="a", digest=EMPTY)], symlinks=[LINK(name="a", target="b")]),
        Directory(files=[FILE(name="a")]),
        Directory(directories=[DIR(name="a")]),
        Directory(symlinks=[LINK(name="a")]),
        Directory(symlinks=[LINK(name="a", target="b\0c")]),
        Directory(
            node_properties=re_pb.NodeProperties(
                properties=[PROPERTY(name="b"), PROPERTY(name="a")]
            )
        ),
    ],
)
def test_what_is_not_canonical(directory: Directory) -> None:
    with pytest.raises(InvalidRequest):
        check_directory(directory, SHA256)


@pytest.mark.row(101)
@pytest.mark.parametrize("target", ["..", "../../x", "a/../../b", "/abs", "a"])
def test_symlinks_may_point_anywhere(target: str) -> None:
    check_directory(Directory(symlinks=[LINK(name="a", target=target)]), SHA256)


def test_what_is_no_message() -> None:
    with pytest.raises(InvalidRequest):
        parse_directory(b"\xff\xff")


def a_dag() -> tuple[Directory, list[Directory]]:
    """A root over x and y, both over a shared leaf, which x has a level deeper as well."""
    leaf = files("leaf")
    middle = Directory(directories=[DIR(name="leaf", digest=digest_of(leaf))])
    x = Directory(
        directories=[
            DIR(name="leaf", digest=digest_of(leaf)),
            DIR(name="middle", digest=digest_of(middle)),
        ]
    )
    y = Directory(directories=[DIR(name="leaf", digest=digest_of(leaf))], files=files("f").files)
    root = Directory(
        directories=[DIR(name="x", digest=digest_of(x)), DIR(name="y", digest=digest_of(y))]
    )
    return root, [leaf, middle, x, y]


@pytest.mark.row(3)
@pytest.mark.row(96)
@pytest.mark.row(97)
def test_trees_are_sorted_topologically_and_equal_for_equal_content() -> None:
    root, children = a_dag()
    data = build_tree(root, children, SHA256)
    assert data == build_tree(root, [*reversed(children), children[0], files("unused")], SHA256)
    tree = re_pb.Tree.FromString(data)
    assert data == tree.SerializeToString()  # a plain encoding: tags 0x0a, then 0x12
    assert tree.root == root
    assert len(tree.children) == len(children)
    position = {digest_of(each).hash: number for number, each in enumerate(tree.children)}
    for number, directory in enumerate(tree.children):
        for child in directory.directories:
            assert position[child.digest.hash] > number


def test_a_tree_needs_all_its_children() -> None:
    root, children = a_dag()
    with pytest.raises(InvalidRequest, match="lacks"):
        build_tree(root, children[1:], SHA256)


def test_a_deep_tree() -> None:
    below, children = files("x"), []
    for _ in range(5000):
        children.append(below)
        below = Directory(directories=[DIR(name="d", digest=digest_of(below))])
    assert len(re_pb.Tree.FromString(build_tree(below, children, SHA256)).children) == 5000


async def cut(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def read(data: bytes, step: int = 1000) -> list[Any]:
    return [directory async for directory in directories_of_tree(cut(data, step))]


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_reading_a_tree(step: int) -> None:
    root, children = a_dag()
    children.append(files(*(f"{number:05}" for number in range(300))))
    tree = re_pb.Tree(root=root, children=children)
    assert await read(tree.SerializeToString(), step) == [root, *children]
    assert await read(b"") == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\x02\xff\xff",
        b"\x1a\x00",
        b"\x0a\x00\x08\x01",
        b"\x0a" + b"\xff" * 20,
        b"\x0a\xff\xff\xff\xff\x0f",
    ],
)
async def test_what_is_no_tree(data: bytes) -> None:
    for step in (1, 1000):
        with pytest.raises(InvalidRequest):
            await read(data, step)
