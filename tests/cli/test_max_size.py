"""`--max-size`: the oldest blobs go in the background, and serving never stops."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from running import running_server

from remote_apis.client.blobs import BlobSource
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction

MIB = 1024 * 1024


def disk_use(directory: Path) -> int:
    used = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
            used += path.stat().st_blocks * 512 if path.is_file() else 0
    return used


@pytest.mark.timeout(120)
async def test_a_store_stays_below_its_size(tmp_path: Path) -> None:
    with running_server(tmp_path, "--workers", "0", "--max-size", "20M") as server:
        async with open_channel(server.url) as channel:
            cas = CasClient(channel)
            written: list[Digest] = []
            used = BlobSource(Digest.of(b"used", DigestFunction.SHA256), b"used")
            await cas.upload([used])
            for _ in range(80):
                data = os.urandom(MIB)
                written.append(Digest.of(data, DigestFunction.SHA256))
                await cas.upload([BlobSource(written[-1], data)])
                assert await cas.read(used.digest) == b"used"
                assert disk_use(tmp_path / "blobs") <= 21 * MIB
            missing = await cas.find_missing(written)
        assert written[0] in missing and written[-1] not in missing
        assert 10 <= len(written) - len(missing) <= 20
