"""FastCDC as of 2020, with normalisation level 2 (REAPI 2.12 FastCdc2020Params)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import Final

import numpy as np

from remote_apis.chunking.gear import WINDOW, Hashes, gear_hashes, gear_table
from remote_apis.errors import InvalidRequest

_LEVEL: Final = 2
# Which bits of the hash must be zero at a cut, by how many there are: published numbers, which all
# implementations have to share.
_MASKS: Final = {
    8: 0x0000001800035300,
    9: 0x0000019000353000,
    10: 0x0000590003530000,
    11: 0x0000D90003530000,
    12: 0x0000D90103530000,
    13: 0x0000D90303530000,
    14: 0x0000D90313530000,
    15: 0x0000D90F03530000,
    16: 0x0000D90303537000,
    17: 0x0000D90703537000,
    18: 0x0000D90707537000,
    19: 0x0000D91707537000,
    20: 0x0000D91747537000,
    21: 0x0000D91767537000,
    22: 0x0000D93767537000,
}
_BLOCK: Final = 64 * 1024
_MIN_AVERAGE: Final = 1024
_MAX_AVERAGE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FastCdc2020:
    """Chunks of a quarter to four times `average_bytes`. Raises InvalidRequest out of range.

    `longest` is four times the average; other values are for comparing with other programs.
    """

    average_bytes: int = 512 * 1024
    seed: int = 0
    longest: int = 0

    def __post_init__(self) -> None:
        if not _MIN_AVERAGE <= self.average_bytes <= _MAX_AVERAGE:
            raise InvalidRequest(f"average chunk size {self.average_bytes} is out of range")

    @property
    def number(self) -> int:
        return 1

    @property
    def min_bytes(self) -> int:
        """No chunk but the last is smaller."""
        return self.average_bytes // 4

    @property
    def max_bytes(self) -> int:
        """No chunk is larger."""
        return self.longest or self.average_bytes * 4

    @property
    def smallest_split(self) -> int:
        return self.max_bytes

    def cutter(self) -> _FastCutter:
        """A cutter for one blob."""
        return _FastCutter(self)


class _FastCutter:
    def __init__(self, parameters: FastCdc2020) -> None:
        self._parameters = parameters
        self._table = gear_table(parameters.seed)
        bits = round(log2(parameters.average_bytes))
        # More zero bits are asked for below the average size and fewer above it.
        self._strict = np.uint64(_MASKS[bits + _LEVEL])
        self._loose = np.uint64(_MASKS[bits - _LEVEL])
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while len(self._buffer) >= self._parameters.max_bytes:
            yield self._take()

    def finish(self) -> Iterator[bytes]:
        while self._buffer:
            yield self._take()

    def _take(self) -> bytes:
        window = bytes(memoryview(self._buffer)[: self._parameters.max_bytes])
        chunk = window[: self._cut(window)]
        del self._buffer[: len(chunk)]
        return chunk

    def _cut(self, window: bytes) -> int:
        """The length of the first chunk. The byte that gives the hash is no longer part of it."""
        if len(window) <= self._parameters.min_bytes:
            return len(window)
        # The algorithm goes by two bytes at a time, so that its limits are even.
        first = self._parameters.min_bytes // 2 * 2
        center = min(self._parameters.average_bytes, len(window)) // 2 * 2
        end = len(window) // 2 * 2
        for mask, start, stop in ((self._strict, first, center), (self._loose, center, end)):
            for at in range(start, stop, _BLOCK):
                hashes = self._hashes(window, first, at, min(stop, at + _BLOCK))
                hits = np.flatnonzero((hashes & mask) == 0)
                if hits.size:
                    return at + int(hits[0])
        return len(window)

    def _hashes(self, window: bytes, first: int, start: int, stop: int) -> Hashes:
        """The hashes after bytes start to stop, where those before `first` do not count."""
        context = max(first, start - WINDOW + 1)
        return gear_hashes(window[context:stop], self._table)[start - context :]
