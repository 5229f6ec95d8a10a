"""The index of assets: what has been pushed or fetched under a URI and its qualifiers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction

Qualifiers = tuple[tuple[str, str], ...]
"""Names and values, sorted."""


class AssetKind(Enum):
    """A blob and a directory tree may be known under one URI."""

    BLOB = 0
    DIRECTORY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetKey:
    """All of it must match for an asset to be found, but for the URI, of which any may."""

    instance: str
    kind: AssetKind
    function: DigestFunction
    qualifiers: Qualifiers


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What URIs stand for. Times are nanoseconds since 1970, `expires_at` None for never.

    `created_at` is when it was pushed, or when fetching began. `digest` is that of the blob or of
    the root Directory; without the references the asset is of no use.
    """

    digest: Digest
    created_at: int
    expires_at: int | None = None
    blobs: tuple[Digest, ...] = ()
    directories: tuple[Digest, ...] = ()
    qualifiers: Qualifiers = ()


class AssetIndex(Protocol):
    """Where assets are written down."""

    async def get(self, key: AssetKey, uris: Sequence[str]) -> dict[str, Asset]:
        """What is known for each URI, expired or not."""
        ...

    async def put(self, key: AssetKey, uris: Collection[str], asset: Asset) -> None:
        """Durable when this returns; replaces what was known. Raises OutOfSpace, Unavailable."""
        ...

    async def known_names(self, key: AssetKey, uris: Sequence[str]) -> set[str]:
        """Names of qualifiers with which any of the URIs is known."""
        ...
