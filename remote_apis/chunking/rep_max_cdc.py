"""RepMaxCDC: cuts where the rolling hash is largest (REAPI 2.12 RepMaxCdcParams)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from remote_apis.chunking.gear import WINDOW, gear_hashes, gear_table
from remote_apis.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class RepMaxCdc:
    """Chunks of `min_bytes` up to, not including, twice as many. Raises InvalidRequest.

    `horizon_bytes` is how far to look for the best cut; with 0 all chunks are of `min_bytes`.
    """

    min_bytes: int = 256 * 1024
    horizon_bytes: int = 8 * 256 * 1024

    def __post_init__(self) -> None:
        if self.min_bytes < WINDOW or self.horizon_bytes < 0:
            raise InvalidRequest(
                f"chunk size {self.min_bytes} or horizon {self.horizon_bytes} is out of range"
            )

    @property
    def number(self) -> int:
        return 2

    @property
    def smallest_split(self) -> int:
        return 2 * self.min_bytes

    def cutter(self) -> _RepMaxCutter:
        """A cutter for one blob."""
        return _RepMaxCutter(self)


class _RepMaxCutter:
    def __init__(self, parameters: RepMaxCdc) -> None:
        self._min = parameters.min_bytes
        self._ahead = 2 * parameters.min_bytes + parameters.horizon_bytes
        self._table = gear_table()
        self._buffer = bytearray()
        self._hashes = np.empty(0, dtype=np.uint64)
        """The hash after each byte of the buffer; the same wherever chunks begin."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        # A chunk is never taken without leaving `min_bytes`, so that there is enough context.
        context = bytes(self._buffer[-(WINDOW - 1) :])
        fresh = gear_hashes(context + data, self._table)[len(context) :]
        self._hashes = np.concatenate([self._hashes, fresh])
        self._buffer += data
        while len(self._buffer) >= self._ahead:
            yield self._take(self._cut(self._ahead))

    def finish(self) -> Iterator[bytes]:
        while len(self._buffer) >= 2 * self._min:
            yield self._take(self._cut(min(len(self._buffer), self._ahead)))
        if self._buffer:
            yield self._take(len(self._buffer))

    def _cut(self, known: int) -> int:
        """The length of the first chunk, looking at so many bytes.

        The best cut of the horizon is taken if it is near enough. If not it shall remain possible
        later, so the next best is looked for that leaves room for a whole chunk before it.
        """
        candidates = self._hashes[self._min - 1 : known - self._min]
        best = int(np.argmax(candidates))
        while best >= self._min:
            best = int(np.argmax(candidates[: best - self._min + 1]))
        return self._min + best

    def _take(self, length: int) -> bytes:
        chunk = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        self._hashes = self._hashes[length:]
        return chunk
