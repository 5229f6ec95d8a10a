"""Digests as one object."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remote_apis.digest import MAX_SIZE, Digest
from remote_apis.digest_functions import DigestFunction


@given(
    function=st.sampled_from(DigestFunction),
    data=st.binary(),
    size=st.one_of(st.integers(1, MAX_SIZE), st.sampled_from([0, 255, 256, MAX_SIZE])),
)
def test_a_packed_digest_is_unpacked_as_it_was(
    function: DigestFunction, data: bytes, size: int
) -> None:
    digest = Digest.of(data, function)._replace(size=size)
    assert Digest.unpack(digest.packed()) == digest


def test_digests_that_differ_are_packed_differently() -> None:
    some = Digest.of(b"some", DigestFunction.SHA256)
    others = [
        some._replace(size=5),
        some._replace(function=DigestFunction.BLAKE3),
        Digest.of(b"same", DigestFunction.SHA256),
    ]
    assert len({digest.packed() for digest in (some, *others)}) == 4
