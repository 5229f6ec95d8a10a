"""SHA256TREE: SHA-256 over a binary tree of 1 KiB leaves (REAPI 2.12 DigestFunction)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LEAF: Final = 1024
_NODE: Final = 32
_LANES: Final = 2048
"""Pairs compressed in one go: enough that numpy's cost a call vanishes, still in the cache."""
_FEW: Final = 12
"""Below so many pairs plain integers are faster than numpy."""
_MASK: Final = 0xFFFFFFFF

_Words = NDArray[np.uint32]


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _square_root_fraction(prime: int) -> int:
    return isqrt(prime << 64) & _MASK


def _cube_root_fraction(prime: int) -> int:
    target = prime << 96
    root = round(float(target) ** (1 / 3))
    while root**3 > target or (root + 1) ** 3 <= target:
        root -= (root**3 - target) // (3 * root * root) or (1 if root**3 > target else -1)
    return root & _MASK


_ROUND_CONSTANTS: Final = [_cube_root_fraction(prime) for prime in _primes(64)]
_PARENT_STATE: Final = [_square_root_fraction(prime) for prime in _primes(16)[8:]]
"""The primes 23 to 53, where plain SHA-256 has 2 to 19: no parent collides with a leaf."""


class Sha256Tree:
    """An object like hashlib's: `update` with the pieces in order, then `hexdigest`.

    Keeps at most one unfinished leaf and a bounded number of nodes for each level of the tree.
    """

    def __init__(self) -> None:
        self._tail = bytearray()
        self._levels: list[bytearray] = [bytearray()]

    def update(self, data: bytes | memoryview, /) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        if self._tail:
            missing = _LEAF - len(self._tail)
            self._tail += view[:missing]
            view = view[missing:]
            if len(self._tail) < _LEAF:
                return
            self._levels[0] += hashlib.sha256(self._tail).digest()
            self._tail.clear()
        whole = len(view) - len(view) % _LEAF
        sha256 = hashlib.sha256
        # In pieces, so that one huge update does not keep all its leaves' hashes.
        for piece in range(0, whole, _LANES * 2 * _LEAF):
            end = min(whole, piece + _LANES * 2 * _LEAF)
            self._levels[0] += b"".join(
                [sha256(view[at : at + _LEAF]).digest() for at in range(piece, end, _LEAF)]
            )
            self._reduce()
        self._tail += view[whole:]

    def hexdigest(self) -> str:
        """The hash of everything so far, in lowercase hexadecimal; may be asked repeatedly."""
        right: bytes | None = None
        if self._tail or not any(self._levels):
            right = hashlib.sha256(self._tail).digest()
        merged = b""
        level = 0
        while level < len(self._levels) or merged:
            nodes = merged
            if level < len(self._levels):
                nodes = bytes(self._levels[level]) + merged
            even = len(nodes) - len(nodes) % (2 * _NODE)
            merged = _parents(nodes[:even])
            odd = nodes[even:]
            if odd:
                right = _parents(odd + right) if right else odd
            level += 1
            if right is None and len(merged) == _NODE and level >= len(self._levels):
                return merged.hex()
        assert right is not None
        return right.hex()

    def _reduce(self) -> None:
        level = 0
        while len(self._levels[level]) >= _LANES * 2 * _NODE:
            nodes = self._levels[level]
            even = len(nodes) - len(nodes) % (2 * _NODE)
            parents = _parents(bytes(nodes[:even]))
            del nodes[:even]
            level += 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += parents


def _parents(nodes: bytes) -> bytes:
    """The parent of each pair of 32-byte nodes: one SHA-256 block, with no final addition."""
    count = len(nodes) // (2 * _NODE)
    if count >= _FEW:
        words = np.frombuffer(nodes, dtype=">u4").reshape(count, 16).astype(np.uint32).T
        state = _rounds_of_arrays([np.ascontiguousarray(word) for word in words])
        return np.stack(state, axis=1).astype(">u4").tobytes()
    out = bytearray()
    for at in range(0, len(nodes), 2 * _NODE):
        block = [int.from_bytes(nodes[i : i + 4], "big") for i in range(at, at + 64, 4)]
        for word in _rounds_of_integers(block):
            out += word.to_bytes(4, "big")
    return bytes(out)


def _rounds_of_integers(block: Sequence[int]) -> Sequence[int]:
    """SHA-256's 64 rounds (FIPS 180-4, 6.2.2 steps 1 to 3) over one block."""

    def rotr(x: int, n: int) -> int:
        return (x >> n | x << (32 - n)) & _MASK

    w = list(block)
    for t in range(16, 64):
        x, y = w[t - 15], w[t - 2]
        s0 = rotr(x, 7) ^ rotr(x, 18) ^ (x >> 3)
        s1 = rotr(y, 17) ^ rotr(y, 19) ^ (y >> 10)
        w.append((w[t - 16] + s0 + w[t - 7] + s1) & _MASK)
    a, b, c, d, e, f, g, h = _PARENT_STATE
    for k, word in zip(_ROUND_CONSTANTS, w, strict=True):
        t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (g ^ (e & (f ^ g))) + k + word
        t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) | (c & (a | b)))
        a, b, c, d, e, f, g, h = (t1 + t2) & _MASK, a, b, c, (d + t1) & _MASK, e, f, g
    return a, b, c, d, e, f, g, h


def _rotation_mixer(scratch: _Words) -> Callable[[_Words, int, int, int, int], _Words]:
    """A function for the xor of two rotations and a third rotation or shift, made in place."""

    def mix(x: _Words, first: int, second: int, third: int, shift: int) -> _Words:
        out = x >> first
        for right, left in ((first, 32 - first), (second, 32 - second), (third, 32 - third)):
            if right != first:
                np.right_shift(x, right, out=scratch)
                np.bitwise_xor(out, scratch, out=out)
            np.left_shift(x, left, out=scratch)
            np.bitwise_xor(out, scratch, out=out)
        if shift:
            np.right_shift(x, shift, out=scratch)
            np.bitwise_xor(out, scratch, out=out)
        return out

    return mix


def _rounds_of_arrays(w: list[_Words]) -> list[_Words]:
    """The same rounds over many blocks at once; element i of each array belongs to block i."""
    raise NotImplementedError
