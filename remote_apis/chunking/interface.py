"""What chunking algorithms have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Cutter(Protocol):
    """Cuts one blob. What it gives out concatenates to what it was fed; no chunk is empty."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The chunks that are certain after these bytes. Advance it to its end."""
        ...

    def finish(self) -> Iterator[bytes]:
        """The rest."""
        ...


class Chunker(Protocol):
    """An algorithm and its parameters."""

    @property
    def number(self) -> int:
        """Its ChunkingFunction on the wire."""
        ...

    @property
    def smallest_split(self) -> int:
        """Blobs of fewer bytes are one chunk."""
        ...

    def cutter(self) -> Cutter:
        """A cutter for one blob."""
        ...
