"""The builder of input roots: canonical messages, whatever the order of adding."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.merkle import check_directory
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.tree_builder import TreeBuilder

SHA256 = DigestFunction.SHA256
A = Digest.of(b"a", SHA256)
B = Digest.of(b"b", SHA256)
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=4
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.tuples(st.sampled_from([A, B]), st.booleans()), max_size=8)


def without_conflicts(tree: dict[str, tuple[Digest, bool]]) -> dict[str, tuple[Digest, bool]]:
    """Drop the files that lie below others."""
    return {
        path: value
        for path, value in tree.items()
        if not any(path.startswith(other + "/") for other in tree)
    }


def built(builder: TreeBuilder) -> tuple[Digest, dict[Digest, bytes]]:
    blobs: dict[Digest, bytes] = {}
    return builder.build(blobs), blobs


def read_back(root: Digest, blobs: dict[Digest, bytes]) -> dict[str, tuple[Digest, bool] | str]:
    """Files and links of a built tree by path; every message is checked to be canonical."""
    found: dict[str, tuple[Digest, bool] | str] = {}
    pending = [("", root)]
    while pending:
        prefix, digest = pending.pop()
        data = blobs[digest]
        assert Digest.of(data, SHA256) == digest
        message = re_pb.Directory.FromString(data)
        check_directory(message, SHA256)
        for file in message.files:
            name = Digest.from_message(file.digest, SHA256)
            found[prefix + file.name] = (name, file.is_executable)
        for link in message.symlinks:
            found[prefix + link.name] = link.target
        for child in message.directories:
            below = Digest.from_message(child.digest, SHA256)
            pending.append((f"{prefix}{child.name}/", below))
    return found


@pytest.mark.row(4)
@pytest.mark.row(5)
@given(TREES, st.randoms())
def test_any_order_gives_one_canonical_tree(
    tree: dict[str, tuple[Digest, bool]], randomness: random.Random
) -> None:
    tree = without_conflicts(tree)

    def build_in(order: list[str]) -> tuple[Digest, dict[Digest, bytes]]:
        builder = TreeBuilder(SHA256)
        for path in order:
            digest, executable = tree[path]
            builder.add_file(path, digest, executable=executable)
        return built(builder)

    order = sorted(tree)
    root, blobs = build_in(order)
    assert read_back(root, blobs) == tree
    randomness.shuffle(order)
    assert build_in(order) == (root, blobs)


def test_the_empty_tree_is_the_empty_blob() -> None:
    root, blobs = built(TreeBuilder(SHA256))
    assert root == Digest.of(b"", SHA256)
    assert blobs == {root: b""}


def test_names_sort_by_their_bytes() -> None:
    builder = TreeBuilder(SHA256)
    # by UTF-16, the last but one of these would come before "\uffee"
    names = ["Z", "a", "b.c", "b/c", "é", "\uffee", "\U0001f980", "~"]
    for name in names:
        builder.add_file(name, A)
    root, blobs = built(builder)
    message = re_pb.Directory.FromString(blobs[root])
    listed = [file.name for file in message.files]
    assert listed == sorted(listed, key=str.encode)


def test_links_and_empty_directories() -> None:
    builder = TreeBuilder(SHA256)
    builder.add_symlink("a/link", "../b")
    builder.make_directory("b")
    root, blobs = built(builder)
    assert read_back(root, blobs) == {"a/link": "../b"}
    message = re_pb.Directory.FromString(blobs[root])
    assert [child.name for child in message.directories] == ["a", "b"]
    assert Digest.from_message(message.directories[1].digest, SHA256) == Digest.of(b"", SHA256)


def test_a_finished_directory_equals_one_built_in_place() -> None:
    part = TreeBuilder(SHA256)
    part.add_file("x", A)
    part.add_file("sub/y", B, executable=True)
    digest, blobs = built(part)

    whole = TreeBuilder(SHA256)
    whole.add_file("d/x", A)
    whole.add_file("d/sub/y", B, executable=True)
    pieces = TreeBuilder(SHA256)
    pieces.add_directory("d", digest)
    root, rest = built(pieces)
    assert root == built(whole)[0]
    assert read_back(root, blobs | rest) == {"d/x": (A, False), "d/sub/y": (B, True)}


def test_making_a_directory_keeps_what_is_in_it() -> None:
    builder = TreeBuilder(SHA256)
    builder.add_file("d/x", A)
    builder.make_directory("d")
    builder.make_directory("d/e")
    root, blobs = built(builder)
    assert read_back(root, blobs) == {"d/x": (A, False)}


def test_the_executable_bit_and_the_content_count() -> None:
    digests = set()
    for digest, executable in ((A, False), (A, True), (B, False)):
        builder = TreeBuilder(SHA256)
        builder.add_file("x", digest, executable=executable)
        digests.add(built(builder)[0])
    assert len(digests) == 3


def test_the_same_again_is_no_conflict() -> None:
    roots = []
    for times in (1, 2):
        builder = TreeBuilder(SHA256)
        for _ in range(times):
            builder.add_file("a/x", A)
            builder.add_symlink("a/link", "x")
            builder.add_directory("d", B)
        roots.append(built(builder)[0])
    assert roots[0] == roots[1]


Step = Callable[[TreeBuilder], None]
CONFLICTS: dict[str, tuple[Step, Step]] = {
    "other content": (lambda b: b.add_file("x", A), lambda b: b.add_file("x", B)),
    "other mode": (lambda b: b.add_file("x", A), lambda b: b.add_file("x", A, executable=True)),
    "link over file": (lambda b: b.add_file("x", A), lambda b: b.add_symlink("x", "y")),
    "file over link": (lambda b: b.add_symlink("x", "y"), lambda b: b.add_file("x", A)),
    "other target": (lambda b: b.add_symlink("x", "y"), lambda b: b.add_symlink("x", "z")),
    "directory over file": (lambda b: b.add_file("x", A), lambda b: b.add_directory("x", B)),
    "empty directory over file": (lambda b: b.add_file("x", A), lambda b: b.make_directory("x")),
    "file over directory": (lambda b: b.add_directory("x", B), lambda b: b.add_file("x", A)),
    "other directory": (lambda b: b.add_directory("x", A), lambda b: b.add_directory("x", B)),
    "below a file": (lambda b: b.add_file("x", A), lambda b: b.add_file("x/y", A)),
    "below a link": (lambda b: b.add_symlink("x", "y"), lambda b: b.add_file("x/y", A)),
    "file over parent": (lambda b: b.add_file("x/y", A), lambda b: b.add_file("x", A)),
    "inside a finished one": (lambda b: b.add_directory("x", A), lambda b: b.add_file("x/y", A)),
    "finished over parent": (lambda b: b.add_file("x/y", A), lambda b: b.add_directory("x", A)),
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_two_entries_of_one_name_are_refused(conflict: str) -> None:
    first, second = CONFLICTS[conflict]
    builder = TreeBuilder(SHA256)
    first(builder)
    with pytest.raises(InvalidRequest):
        second(builder)
