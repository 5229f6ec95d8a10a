"""Digests: the name of a blob is its digest function, its hash and its size."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple, NewType

from remote_apis.digest_functions import BY_NUMBER, DigestFunction, infer
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_LOWERCASE_HEX = re.compile(r"[0-9a-f]+\Z")
MAX_SIZE = 2**63 - 1


PackedDigest = NewType("PackedDigest", bytes)


class Digest(NamedTuple):
    """A blob's name, validated when made by `parse`, `from_message` or `of`.

    A NamedTuple and not a dataclass: FindMissingBlobs makes and hashes thousands a call.
    """

    function: DigestFunction
    hash: str
    size: int

    def __str__(self) -> str:
        return f"{self.function.label}:{self.resource}"

    @property
    def resource(self) -> str:
        """`HASH/SIZE`, as resource names have it; the digest function travels beside it."""
        return f"{self.hash}/{self.size}"

    @classmethod
    def of_resource(cls, text: str, function: DigestFunction) -> Digest:
        """Undo `resource`. Raises InvalidRequest, or ValueError where the size is no number."""
        hash_, _, size = text.partition("/")
        return cls.parse(hash_, int(size), function)

    @classmethod
    def of(cls, data: bytes, function: DigestFunction) -> Digest:
        """The digest of bytes in hand."""
        hasher = function.hasher(len(data))
        hasher.update(data)
        return cls(function, hasher.hexdigest(), len(data))

    @classmethod
    def parse(cls, hash_: str, size: int, function: DigestFunction) -> Digest:
        """Validate a hash and a size. Raises InvalidRequest (REAPI 2.12 Digest)."""
        if len(hash_) != function.hex_length or not _LOWERCASE_HEX.match(hash_):
            raise InvalidRequest(
                f"digest hash {hash_[:160]!r} is not {function.hex_length} lowercase hexadecimal "
                f"characters, as {function.name} needs"
            )
        if not 0 <= size <= MAX_SIZE:
            raise InvalidRequest(f"digest size {size} of {hash_} is negative or too large")
        if size == 0 and hash_ != function.empty_hash:
            raise InvalidRequest(f"digest {hash_} has size 0 and is not that of the empty blob")
        if size != 0 and hash_ == function.empty_hash:
            raise InvalidRequest(f"digest of the empty blob has size {size}, not 0")
        return cls(function, hash_, size)

    @classmethod
    def from_message(cls, message: re_pb.Digest, function: DigestFunction) -> Digest:
        """Validate a wire Digest. Raises InvalidRequest."""
        return cls.parse(message.hash, message.size_bytes, function)

    def to_message(self) -> re_pb.Digest:
        """The wire form; the digest function travels beside it."""
        return re_pb.Digest(hash=self.hash, size_bytes=self.size)

    def packed(self) -> PackedDigest:
        """The same as one small object, where thousands are kept."""
        size = self.size.to_bytes((self.size.bit_length() + 7) // 8)
        return PackedDigest(
            bytes([self.function.number, len(size)]) + size + bytes.fromhex(self.hash)
        )

    @classmethod
    def unpack(cls, packed: PackedDigest) -> Digest:
        """The digest that `packed` was made of."""
        end = 2 + packed[1]
        return cls(BY_NUMBER[packed[0]], packed[end:].hex(), int.from_bytes(packed[2:end]))


def function_of_request(
    number: int, hashes: Collection[str], supported: Collection[DigestFunction]
) -> DigestFunction:
    """The one digest function of a request.

    `number` is the request's digest_function field; when it is 0 the function follows from the
    length of the first hash (REAPI 2.12 `digest_function` of every request). Raises InvalidRequest.
    """
    if number:
        function = BY_NUMBER.get(number)
        if function is None or function not in supported:
            raise InvalidRequest(f"digest function {number} is not supported by this server")
        return function
    if not hashes:
        return DigestFunction.SHA256
    first = next(iter(hashes))
    inferred = infer(len(first))
    if inferred is None or inferred not in supported:
        raise InvalidRequest(
            f"no digest function has a hash as long as {first[:160]!r} ({len(first)} characters); "
            "set digest_function"
        )
    return inferred
