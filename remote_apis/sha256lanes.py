"""SHA-256's rounds over numpy arrays: element i of every array belongs to block i."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Words = NDArray[np.uint32]


class _Mixer:
    """SHA-256's sigma functions over arrays, with one scratch array for all intermediate values."""

    def __init__(self, lanes: int) -> None:
        self._scratch = np.empty(lanes, dtype=np.uint32)

    def __call__(self, x: _Words, *, rotations: tuple[int, ...], shift: int = 0) -> _Words:
        """The xor of the rotations to the right and, if not 0, of one shift to the right."""
        scratch = self._scratch
        out: _Words = np.right_shift(x, shift) if shift else np.zeros_like(x)
        for n in rotations:
            np.right_shift(x, n, out=scratch)
            np.bitwise_xor(out, scratch, out=out)
            np.left_shift(x, 32 - n, out=scratch)
            np.bitwise_xor(out, scratch, out=out)
        return out


def encrypt_many(blocks: bytes, state: Sequence[int], constants: Sequence[int]) -> bytes:
    """As `sha256block.encrypt`, with the 64 round constants given."""
    words = np.frombuffer(blocks, dtype=">u4").reshape(-1, 16).T
    out = _rounds([word.astype(np.uint32) for word in words], state, constants)
    return np.stack(out, axis=1).astype(">u4").tobytes()


def _rounds(w: list[_Words], state: Sequence[int], constants: Sequence[int]) -> list[_Words]:
    """The message schedule and the 64 rounds; additions wrap by the arrays' type."""
    mix = _Mixer(len(w[0]))
    for t in range(16, 64):
        word = mix(w[t - 15], rotations=(7, 18), shift=3)
        word += mix(w[t - 2], rotations=(17, 19), shift=10)
        word += w[t - 16]
        word += w[t - 7]
        w.append(word)
    a, b, c, d, e, f, g, h = (np.full_like(w[0], value) for value in state)
    for k, word in zip(constants, w, strict=True):
        t1 = mix(e, rotations=(6, 11, 25))
        t1 += h
        t1 += g ^ (e & (f ^ g))
        t1 += word
        t1 += np.uint32(k)
        t2 = mix(a, rotations=(2, 13, 22))
        t2 += (a & b) | (c & (a | b))
        t2 += t1
        t1 += d
        a, b, c, d, e, f, g, h = t2, a, b, c, t1, e, f, g
    return [a, b, c, d, e, f, g, h]
