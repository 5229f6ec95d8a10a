"""How much fetching may take, and where it may go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSettings:
    """`max_bytes` bounds one download, what is unpacked from it, and a git pack, each.

    `timeout` seconds is both the default and the most that a request can have. What was fetched
    with nothing to pin its content (a checksum or a commit) is served again for `reuse_seconds`.
    """

    allow_private_addresses: bool = False
    max_bytes: int = 8 * 1024**3
    max_entries: int = 500_000
    timeout: float = 600.0
    reuse_seconds: float = 3600.0
    max_concurrent: int = 16
    git: str = "git"
