"""SHA-256's block cipher over many blocks at once, which hashlib does not offer by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import isqrt
from typing import Final

_FEW: Final = 12
"""Below so many blocks plain integers are faster than numpy."""
_MASK: Final = 0xFFFFFFFF


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root(number: int) -> int:
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


@cache
def _round_constants() -> list[int]:
    return [_cube_root(prime << 96) & _MASK for prime in _primes(64)]


@cache
def root_fractions(first: int, last: int) -> list[int]:
    """The leading 32 fractional bits of the square roots of primes number `first` to `last`."""
    return [isqrt(prime << 64) & _MASK for prime in _primes(last)[first - 1 :]]


def encrypt(blocks: bytes, state: Sequence[int]) -> bytes:
    """Each 64-byte block's 32-byte output from the initial `state` of 8 words.

    Steps 1 to 3 of FIPS 180-4, 6.2.2: what is left out is the addition of the initial state.
    """
    if len(blocks) < _FEW * 64:
        return b"".join(_encrypt_one(blocks[i : i + 64], state) for i in range(0, len(blocks), 64))
    from remote_apis.sha256lanes import encrypt_many  # noqa: PLC0415 - few need numpy's 0.1 s

    return encrypt_many(blocks, state, _round_constants())


def _encrypt_one(block: bytes, state: Sequence[int]) -> bytes:
    def rotr(x: int, n: int) -> int:
        return (x >> n | x << (32 - n)) & _MASK

    w = [int.from_bytes(block[i : i + 4], "big") for i in range(0, 64, 4)]
    for t in range(16, 64):
        x, y = w[t - 15], w[t - 2]
        s0 = rotr(x, 7) ^ rotr(x, 18) ^ (x >> 3)
        s1 = rotr(y, 17) ^ rotr(y, 19) ^ (y >> 10)
        w.append((w[t - 16] + s0 + w[t - 7] + s1) & _MASK)
    a, b, c, d, e, f, g, h = state
    for k, word in zip(_round_constants(), w, strict=True):
        t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (g ^ (e & (f ^ g))) + k + word
        t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) | (c & (a | b)))
        a, b, c, d, e, f, g, h = (t1 + t2) & _MASK, a, b, c, (d + t1) & _MASK, e, f, g
    return b"".join(word.to_bytes(4, "big") for word in (a, b, c, d, e, f, g, h))
