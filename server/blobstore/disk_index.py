"""What the disk store knows about its files without asking the file system."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import NamedTuple

from remote_apis.digest import Digest


class Identity(NamedTuple):
    """A file's state when its bytes were last known to be right."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result, *, hard_linked: bool) -> Identity:
        """`hard_linked`, or with a second name: the change time is left out, as 0.

        It changes with the number of names, and so it may when the other one is removed.
        """
        ctime_ns = 0 if hard_linked or status.st_nlink > 1 else status.st_ctime_ns
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, ctime_ns)

    def is_of(self, status: os.stat_result, *, whenever: bool = False) -> bool:
        """Whether it is still the same; `whenever`: the change time may be another."""
        same = self[:3] == (status.st_ino, status.st_size, status.st_mtime_ns)
        return same and (whenever or self.ctime_ns in (0, status.st_ctime_ns))


class Entry:
    """One blob's file. `identity` is None until its bytes have been checked in this process."""

    __slots__ = ("digest", "disk_bytes", "identity", "last_use")

    def __init__(
        self, digest: Digest, *, disk_bytes: int, last_use: float, identity: Identity | None
    ) -> None:
        self.digest = digest
        self.disk_bytes = disk_bytes
        self.last_use = last_use
        self.identity = identity


class DiskIndex:
    """Entries by digest, least recently used first, and the sum of their real disk use."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Digest, Entry] = OrderedDict()
        self._unsaved: set[Entry] = set()
        self.disk_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._entries

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._entries)

    def get(self, digest: Digest) -> Entry | None:
        """The entry, its place in the order unchanged."""
        return self._entries.get(digest)

    def put(self, entry: Entry) -> None:
        """Add or replace an entry as the most recently used."""
        self.remove(entry.digest)
        self._entries[entry.digest] = entry
        self.disk_bytes += entry.disk_bytes

    def touch(self, digest: Digest, now: float) -> bool:
        """Mark as used now. False if there is no such entry."""
        entry = self._entries.get(digest)
        if entry is None:
            return False
        entry.last_use = now
        self._unsaved.add(entry)
        self._entries.move_to_end(digest)
        return True

    def touch_all(self, digests: Collection[Digest], now: float) -> set[Digest]:
        """Mark as used now; those without an entry. FindMissingBlobs spends its time here."""
        entries, unsaved = self._entries, self._unsaved
        missing = set()
        for digest in digests:
            entry = entries.get(digest)
            if entry is not None:
                entry.last_use = now
                unsaved.add(entry)
                entries.move_to_end(digest)
            elif digest.size:
                missing.add(digest)
        return missing

    def remove(self, digest: Digest) -> None:
        """Forget the entry, if there is one."""
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self.disk_bytes -= entry.disk_bytes

    def uses(self) -> Iterator[tuple[Digest, float, int]]:
        """Digest, last use and disk bytes, least recent first."""
        return ((d, entry.last_use, entry.disk_bytes) for d, entry in self._entries.items())

    def take_unsaved_uses(self) -> list[Entry]:
        """Entries touched since the last time this was asked."""
        unsaved, self._unsaved = self._unsaved, set()
        return [entry for entry in unsaved if self._entries.get(entry.digest) is entry]
