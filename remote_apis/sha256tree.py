"""SHA256TREE: SHA-256 over a binary tree of 1 KiB leaves (REAPI 2.12 DigestFunction)."""

from __future__ import annotations

import hashlib
from typing import Final

from remote_apis.sha256block import encrypt, root_fractions

_LEAF: Final = 1024
_NODE: Final = 32
_NODES_AT_ONCE: Final = 4096
"""Nodes that a level gathers before it is merged: numpy's cost a call vanishes, memory does not."""


class Sha256Tree:
    """An object like hashlib's: `update` with the pieces in order, then `hexdigest`.

    A blob over 1024 bytes is cut at the largest power of two below its size, and its hash is that
    of both halves' hashes. Cutting so makes complete subtrees of 2^k leaves from the left, which
    can be merged as they come: a level keeps at most some thousand nodes.
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
            self._add_leaves(memoryview(bytes(self._tail)))
            self._tail.clear()
        whole = len(view) - len(view) % _LEAF
        for at in range(0, whole, _NODES_AT_ONCE * _LEAF):
            self._add_leaves(view[at : min(whole, at + _NODES_AT_ONCE * _LEAF)])
        self._tail += view[whole:]

    def hexdigest(self) -> str:
        """The hash of everything so far, in lowercase hexadecimal; may be asked repeatedly."""
        right = b""
        if self._tail or not any(self._levels):
            right = hashlib.sha256(self._tail).digest()
        merged = b""
        for level in self._levels:
            merged, right = _merge_level(bytes(level) + merged, right)
        while merged:
            merged, right = _merge_level(merged, right)
        return right.hex()

    def _add_leaves(self, leaves: memoryview) -> None:
        self._levels[0] += b"".join(
            [hashlib.sha256(leaves[i : i + _LEAF]).digest() for i in range(0, len(leaves), _LEAF)]
        )
        level = 0
        while len(self._levels[level]) >= _NODES_AT_ONCE * _NODE:
            nodes = self._levels[level]
            pairs = bytes(nodes[: len(nodes) // (2 * _NODE) * (2 * _NODE)])
            del nodes[: len(pairs)]
            level += 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += _parents(pairs)


def _merge_level(nodes: bytes, right: bytes) -> tuple[bytes, bytes]:
    """Merge pairs into the next level; an odd last node joins what lies to its right."""
    pairs = len(nodes) // (2 * _NODE) * (2 * _NODE)
    odd = nodes[pairs:]
    if odd:
        right = _parents(odd + right) if right else odd
    return _parents(nodes[:pairs]), right


def _parents(pairs: bytes) -> bytes:
    """One block cipher call a pair, its state from the primes 23 to 53.

    Plain SHA-256 takes 2 to 19, so that no parent collides with a leaf.
    """
    return encrypt(pairs, root_fractions(9, 16))
