"""The digest functions of REAPI 2.12 and how each hashes a stream of bytes."""

from __future__ import annotations

import hashlib
import mmap
from enum import Enum
from functools import cached_property
from typing import Protocol

import blake3 as _blake3

from remote_apis.sha256tree import Sha256Tree


class Hasher(Protocol):
    """What hashlib's objects offer; `hexdigest` is lowercase and zero padded."""

    def update(self, data: bytes | memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


class DigestFunction(Enum):
    """A digest function: its number on the wire, and the length of its hash in hexadecimal.

    VSO and MURMUR3 exist on the wire and are not offered by this project.
    """

    SHA256 = (1, 64)
    SHA1 = (2, 40)
    MD5 = (3, 32)
    SHA384 = (5, 96)
    SHA512 = (6, 128)
    SHA256TREE = (8, 64)
    BLAKE3 = (9, 64)
    GITSHA1 = (10, 40)

    def __init__(self, number: int, hex_length: int) -> None:
        self.number = number
        self.hex_length = hex_length
        self.label = self.name.lower()

    def __hash__(self) -> int:
        return self.number

    @property
    def is_named_in_paths(self) -> bool:
        """Whether resource names carry it, because the hash's length does not tell it."""
        return self in _NOT_INFERABLE

    @cached_property
    def empty_hash(self) -> str:
        """The hash of no bytes at all."""
        return self.hasher(0).hexdigest()

    def hasher(self, size: int) -> Hasher:
        """A fresh hasher for a blob of `size` bytes; only GITSHA1 uses the size."""
        if self is DigestFunction.BLAKE3:
            return _blake3.blake3()
        if self is DigestFunction.SHA256TREE:
            return Sha256Tree()
        if self is DigestFunction.GITSHA1:
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.new(self.label, usedforsecurity=False)

    def hash_mapped(self, descriptor: int, size: int) -> str:
        """The hash of an open file of `size` bytes, by mapping it. Blocks. Raises OSError.

        Who cuts the file short meanwhile ends this process.
        """
        hasher = self.hasher(size)
        if isinstance(hasher, _blake3.blake3):
            # takes and leaves its map without the interpreter's lock
            hasher.update_mmap(f"/proc/self/fd/{descriptor}")
        elif size:
            with (
                mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as data,
                memoryview(data) as view,
            ):
                hasher.update(view)
        return hasher.hexdigest()


_NOT_INFERABLE = frozenset(
    {DigestFunction.SHA256TREE, DigestFunction.BLAKE3, DigestFunction.GITSHA1}
)
BY_NUMBER = {function.number: function for function in DigestFunction}
BY_LABEL = {function.label: function for function in DigestFunction}
_BY_LENGTH = {f.hex_length: f for f in DigestFunction if f not in _NOT_INFERABLE}


def infer(hex_length: int) -> DigestFunction | None:
    """The function that an unnamed hash of this length belongs to, if there is one."""
    return _BY_LENGTH.get(hex_length)
