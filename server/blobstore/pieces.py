"""Write a blob's pieces as they come: on the event loop, or beside it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Executor
from types import TracebackType
from typing import Self

from server.blobstore.verifying import Verifier

_WORTH_A_THREAD = 256 << 10


class PieceWriter:
    """Verifies and writes pieces to a descriptor, which must stay open until this was left.

    With `threads`, large pieces are written there, each while the next one is on its way.
    """

    def __init__(self, descriptor: int, verifier: Verifier, threads: Executor | None) -> None:
        self._descriptor = descriptor
        self._verifier = verifier
        self._threads = threads
        self._written: asyncio.Future[None] | None = None

    async def write(self, piece: bytes) -> None:
        """Take the next piece. Raises DigestMismatch and OSError, of an earlier one maybe."""
        await self._settle()
        if self._threads is None or len(piece) < _WORTH_A_THREAD:
            self._append(piece)
            return
        loop = asyncio.get_running_loop()
        self._written = loop.run_in_executor(self._threads, self._append, piece)

    def _append(self, piece: bytes) -> None:
        self._verifier.add(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]

    async def _settle(self) -> None:
        """Wait for the thread, however often we are cancelled: it holds the descriptor."""
        written, self._written = self._written, None
        if written is None:
            return
        cancelled: asyncio.CancelledError | None = None
        while not written.done():
            try:
                await asyncio.wait([written])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        written.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._settle()
