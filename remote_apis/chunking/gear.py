"""The Gear rolling hash: 64 bits, so that a byte counts for the 64 positions after it."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

WINDOW = 64

Hashes = NDArray[np.uint64]


@cache
def gear_table(seed: int = 0) -> Hashes:
    """For each byte the high 64 bits of an MD5, xor the seed.

    REAPI 2.12 FastCdc2020Params says "the MD5 of the byte"; what the algorithm's authors hash, and
    what its published test vectors need, is the byte 64 times.
    """
    values = [
        int.from_bytes(hashlib.md5(bytes([byte]) * 64, usedforsecurity=False).digest()[:8], "big")
        for byte in range(256)
    ]
    return np.array(values, dtype=np.uint64) ^ np.uint64(seed)


def gear_hashes(data: bytes, table: Hashes) -> Hashes:
    """Element i is the hash after byte i: h = 2 h + table[byte], beginning with 0.

    Doubling the window six times takes the place of 64 additions a byte.
    """
    hashes = table[np.frombuffer(data, dtype=np.uint8)]
    width = 1
    while width < min(WINDOW, len(hashes)):
        shifted = hashes[:-width] << np.uint64(width)
        hashes[width:] += shifted
        width *= 2
    return hashes
