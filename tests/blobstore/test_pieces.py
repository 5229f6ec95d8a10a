"""Pieces that are written in a thread: in order, and the descriptor is let alone until the end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DigestMismatch
from server.blobstore.pieces import PieceWriter
from server.blobstore.verifying import Verifier

PIECES = [b"a" * (1 << 20), b"small", b"b" * (1 << 20), b"c" * (300 << 10)]
WHOLE = Digest.of(b"".join(PIECES), DigestFunction.BLAKE3)


class Gate(Verifier):
    """Holds the writing thread back until it is opened."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(digest)
        self.is_reached = threading.Event()
        self.is_open = threading.Event()

    def add(self, data: bytes | memoryview) -> None:
        self.is_reached.set()
        assert self.is_open.wait(30)
        super().add(data)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    yield descriptor, path
    os.close(descriptor)


async def test_in_order_and_whole(threads: ThreadPoolExecutor, file: tuple[int, Path]) -> None:
    verifier = Verifier(WHOLE)
    async with PieceWriter(file[0], verifier, threads) as writer:
        for piece in PIECES:
            await writer.write(piece)
    verifier.finish()
    assert file[1].read_bytes() == b"".join(PIECES)


async def test_a_piece_too_many(threads: ThreadPoolExecutor, file: tuple[int, Path]) -> None:
    verifier = Verifier(Digest.of(b"x" * 100, DigestFunction.BLAKE3))
    with pytest.raises(DigestMismatch):
        async with PieceWriter(file[0], verifier, threads) as writer:
            await writer.write(PIECES[0])


async def test_whoever_is_cancelled_waits_for_the_thread(
    threads: ThreadPoolExecutor, file: tuple[int, Path]
) -> None:
    gate = Gate(WHOLE)

    async def write() -> None:
        async with PieceWriter(file[0], gate, threads) as writer:
            for piece in PIECES:
                await writer.write(piece)

    task = asyncio.create_task(write())
    await asyncio.to_thread(gate.is_reached.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    gate.is_open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert file[1].read_bytes() == PIECES[0]
