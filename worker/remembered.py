"""What was read from the CAS and is likely to be asked for again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from remote_apis.digest import Digest

T = TypeVar("T")


class Remembered(Generic[T]):
    """Messages by digest, in the form that they are used in; the least recently used go first.

    `max_bytes` bounds their encoded size.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[Digest, T] = OrderedDict()
        self._bytes = 0

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._known

    def get(self, digest: Digest) -> T | None:
        """What was remembered, if it still is."""
        found = self._known.get(digest)
        if found is not None:
            self._known.move_to_end(digest)
        return found

    def put(self, digest: Digest, value: T) -> None:
        """Remember this, at least until the next."""
        if digest not in self._known:
            self._known[digest] = value
            self._bytes += digest.size
        while self._bytes > self._max_bytes and len(self._known) > 1:
            old, _ = self._known.popitem(last=False)
            self._bytes -= old.size
