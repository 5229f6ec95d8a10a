"""What a worker remembers of the CAS."""

from __future__ import annotations

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from worker.remembered import Remembered


def digest(name: str, size: int) -> Digest:
    return Digest.of(name.encode() * size, DigestFunction.SHA256)


def test_the_least_recently_used_go_first() -> None:
    known: Remembered[str] = Remembered(max_bytes=30)
    a, b, c, large = (digest(name, 10) for name in "abcd")
    for each, value in ((a, "a"), (b, "b"), (c, "c")):
        known.put(each, value)
    known.put(a, "a")
    assert known.get(a) == "a"
    known.put(large, "d")
    assert known.get(b) is None
    assert (known.get(a), known.get(c), known.get(large)) == ("a", "c", "d")
    assert a in known


def test_what_is_larger_than_everything_is_kept_until_the_next() -> None:
    known: Remembered[str] = Remembered(max_bytes=30)
    small, large = digest("a", 10), digest("b", 100)
    known.put(small, "small")
    known.put(large, "large")
    assert (known.get(small), known.get(large)) == (None, "large")
    known.put(small, "small")
    assert (known.get(small), known.get(large)) == ("small", None)
