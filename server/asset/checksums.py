"""Subresource integrity: `checksum.sri` (W3C Subresource Integrity, Remote Asset API)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import blake3

from remote_apis.digest_functions import Hasher
from remote_apis.errors import InvalidRequest

_LENGTHS = {"sha1": 20, "sha256": 32, "blake3": 32, "sha384": 48, "sha512": 64}
"""Bytes of each hash, the weakest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """Content must have one of the hashes, in hexadecimal, by the algorithm."""

    algorithm: str
    hashes: frozenset[str]

    def hasher(self) -> Hasher:
        """A fresh hasher for the content."""
        if self.algorithm == "blake3":
            return blake3.blake3()
        return hashlib.new(self.algorithm, usedforsecurity=False)


def parse_sri(text: str) -> Checksum:
    """Parse `sha256-BASE64`, several of them apart by spaces; the strongest algorithm counts.

    Raises InvalidRequest.
    """
    found: dict[str, set[str]] = {}
    for word in text.split():
        algorithm, dash, rest = word.partition("-")
        if not dash or algorithm not in _LENGTHS:
            raise InvalidRequest(
                f"checksum.sri {word[:160]!r} begins with none of {', '.join(_LENGTHS)} and a dash"
            )
        found.setdefault(algorithm, set()).add(_decoded(rest.partition("?")[0], algorithm))
    if not found:
        raise InvalidRequest("checksum.sri is empty")
    strongest = max(found, key=list(_LENGTHS).index)
    return Checksum(algorithm=strongest, hashes=frozenset(found[strongest]))


def _decoded(text: str, algorithm: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"checksum.sri has the bad base64 {text[:160]!r}: {error}") from None
    if len(raw) != _LENGTHS[algorithm]:
        raise InvalidRequest(
            f"checksum.sri has {len(raw)} bytes for {algorithm}, not {_LENGTHS[algorithm]}"
        )
    return raw.hex()


def checksum_of(qualifiers: Mapping[str, str]) -> Checksum | None:
    """The checksum that qualifiers ask for. Raises InvalidRequest."""
    text = qualifiers.get("checksum.sri")
    return None if text is None else parse_sri(text)
