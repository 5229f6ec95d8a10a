"""SHA256TREE gives the published values, however the bytes are cut, in bounded memory."""

import hashlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_apis.sha256block import encrypt, root_fractions
from remote_apis.sha256tree import Sha256Tree

# Facts published with REAPI 2.12: the hash of the first n bytes of 0, 1, …, 250, 0, 1, …
PUBLISHED = {
    1025: "36c0998b21839ef74300b9de47d96d1f62323dc81f2b4231e98ce70cd6ffe750",
    2048: "b584996386f01793751c5cf0c39561f51b7e9924b818943b3cb2f6928cea0fa9",
    2049: "7318d2029b0392edf4cf109edb5a086b4bdadbb7950f710a1483eb881d9e5d44",
    3072: "dfc61c0a041f79d55d53bfe31c6cda7df77fdc8e6fbac1143d70b7144fdf6937",
    3073: "517d20c0e5835f060a1bd6388ed68574f63424bdac2a2c3a35a5c2ef859d8fe2",
    4096: "2f72bb93880012168c027f6781527ff08177c7c8dccb443f4d2c6389c186633d",
    4097: "c3ec942c1b8f4580320d3a06bcf4f8fe1f5db2be797ab67061ea4c2a95f208f2",
    7169: "ad729297ab36cd099665b27c4247474a5518e4cd0be443f5f31d95edda08429b",
    8193: "113c6e3a2452f388b6fad13dfab66ee0bff597a0a9a517ad8d0165f7190b603e",
    16384: "a7a10149a8cb00be537000560edb83b196306b780b72fad8af218f369f75fc19",
    31744: "2cdf7662636c173d4b236f6ea03bf84c65e7f6487b53b2a61c420e26cf8a98c7",
    102400: "0668d69e5331840d2f1823d717b7b3f5d1fdc8a09504cddb692b87ff83d50e5f",
}


def sequence(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def tree_hash(data: bytes) -> str:
    hasher = Sha256Tree()
    hasher.update(data)
    return hasher.hexdigest()


def by_definition(data: bytes) -> bytes:
    """The recursion of the specification, word for word."""
    if len(data) <= 1024:
        return hashlib.sha256(data).digest()
    half = 1 << ((len(data) - 1).bit_length() - 1)
    return encrypt(by_definition(data[:half]) + by_definition(data[half:]), root_fractions(9, 16))


@pytest.mark.row(110)
@pytest.mark.parametrize("length", PUBLISHED)
def test_published_values(length: int) -> None:
    assert tree_hash(sequence(length)) == PUBLISHED[length]


@pytest.mark.row(110)
@pytest.mark.parametrize("length", [0, 1, 63, 64, 1023, 1024])
def test_up_to_one_leaf_it_is_plain_sha256(length: int) -> None:
    assert tree_hash(sequence(length)) == hashlib.sha256(sequence(length)).hexdigest()


@pytest.mark.row(110)
def test_the_state_of_parents_is_that_of_the_specification() -> None:
    assert root_fractions(9, 16) == [
        *(0xCBBB9D5D, 0x629A292A, 0x9159015A, 0x152FECD8),
        *(0x67332667, 0x8EB44A87, 0xDB0C2E0D, 0x47B5481D),
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70_000), st.lists(st.integers(0, 9_000), max_size=12))
def test_any_cutting_gives_the_hash_by_definition(length: int, cuts: list[int]) -> None:
    data = sequence(length)
    hasher = Sha256Tree()
    rest = memoryview(data)
    for cut in cuts:
        hasher.update(rest[:cut])
        hasher.hexdigest()  # asking in between changes nothing
        rest = rest[cut:]
    hasher.update(rest)
    assert hasher.hexdigest() == by_definition(data).hex()


def test_levels_beyond_one_batch_agree_with_the_definition() -> None:
    data = sequence(9 * 1024 * 1024 + 17)
    assert tree_hash(data) == by_definition(data).hex()


def test_memory_does_not_grow_with_the_blob() -> None:
    hasher = Sha256Tree()
    chunk = bytes(1024 * 1024)
    for _ in range(8):
        hasher.update(chunk)
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(24):
        hasher.update(chunk)
    grown = sum(
        stat.size_diff for stat in tracemalloc.take_snapshot().compare_to(before, "filename")
    )
    tracemalloc.stop()
    assert grown < 512 * 1024
