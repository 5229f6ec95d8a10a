"""Uploads that can outlive the stream they came in by: ByteStream's resumable writes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from remote_apis.resource_names import UploadName
from server.blobstore.interface import BlobStore

_SETTLE_SECONDS = 2.0
"""How long a resuming stream waits for the server to notice that the one before has broken."""
_SETTLE_STEP = 0.02


class NotNeeded(Exception):
    """The store has the blob from elsewhere."""


class Upload:
    """One blob on its way into the store: a `BlobStore.write` that is fed from outside.

    The store keeps the bytes, under its own temporary name and with its own hash; nothing is
    held here but one chunk. `committed` counts the blob's (uncompressed) bytes taken over.
    """

    def __init__(self, store: BlobStore, digest: Digest) -> None:
        self.digest = digest
        self.committed = 0
        self._chunk = b""
        self._ended = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._writing = loop.create_task(store.write(digest, self._chunks()))
        self._writing.add_done_callback(self._note_end)

    @property
    def is_over(self) -> bool:
        """Whether the store is done with it, well or not."""
        return self._writing.done()

    async def add(self, data: bytes) -> None:
        """Hand over bytes. Raises NotNeeded when the store has the blob, and what it raises.

        When cancelled, the bytes are either taken and counted or not taken at all.
        """
        while self._chunk and not self._writing.done():
            self._emptied.clear()
            await self._emptied.wait()
        if self._writing.done():
            self._writing.result()
            raise NotNeeded
        self._chunk = data
        self.committed += len(data)
        self._filled.set()

    async def race(self, other: asyncio.Future[Any]) -> bool:
        """Wait for another thing. False if the store was done with the blob first."""
        both: list[asyncio.Future[Any]] = [other, self._writing]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return other.done()

    async def finish(self) -> None:
        """There are no more bytes; returns when the blob is stored. Raises as `BlobStore.write`.

        When cancelled, storing goes on.
        """
        self._ended = True
        self._filled.set()
        await asyncio.shield(self._writing)

    async def cancel(self) -> None:
        """Give up: the store drops what it has, unless it has been asked to finish."""
        if not self._ended:
            self._writing.cancel()
        await asyncio.wait([self._writing])

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            if self._chunk:
                data, self._chunk = self._chunk, b""
                self._emptied.set()
                yield data
            elif self._ended:
                return
            else:
                self._filled.clear()
                await self._filled.wait()

    def _note_end(self, writing: asyncio.Task[None]) -> None:
        if not writing.cancelled():
            writing.exception()  # an upload that nobody resumes has nobody who asks
        self._emptied.set()


class Uploads:
    """The uploads under way, and those that broke off and wait to be resumed."""

    def __init__(
        self, store: BlobStore, *, keep_seconds: float = 3600.0, max_kept: int = 128
    ) -> None:
        """At most `max_kept` broken uploads are kept, each for `keep_seconds`."""
        self._store = store
        self._keep_seconds = keep_seconds
        self._max_kept = max_kept
        self._active: dict[UploadName, set[Upload]] = {}
        self._kept: OrderedDict[UploadName, tuple[Upload, asyncio.TimerHandle]] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Drop what is kept and wait for what is ending."""
        for name in list(self._kept):
            self._drop_kept(name)
        while self._ending:
            await asyncio.wait(self._ending)

    def committed(self, name: UploadName) -> int | None:
        """How many bytes a resuming stream can leave out; None for an unknown upload."""
        uploads = set(self._active.get(name, ()))
        if name in self._kept:
            uploads.add(self._kept[name][0])
        return max((upload.committed for upload in uploads if not upload.is_over), default=None)

    async def begin(self, name: UploadName, offset: int) -> Upload:
        """A fresh upload at offset 0, the one that broke off there at any other.

        Raises InvalidRequest for another offset. Beginning anew is always allowed: many clients
        retry without asking how far they got.
        """
        if offset == 0:
            upload = Upload(self._store, name.blob.digest)
        else:
            upload = await self._resume(name, offset)
        self._active.setdefault(name, set()).add(upload)
        return upload

    def end(self, name: UploadName, upload: Upload, *, keep: bool) -> None:
        """The stream is over. `keep` an upload that may be resumed."""
        active = self._active[name]
        active.remove(upload)
        if not active:
            del self._active[name]
        if upload.is_over:
            # Clients that begin anew under another name leave what broke off to nobody.
            for other in [each for each in self._kept if each.blob.digest == upload.digest]:
                self._own(self._drop_if_stored(other))
            return
        kept = self._kept.get(name)
        if not keep or upload.committed == 0 or (kept and kept[0].committed >= upload.committed):
            self._cancel(upload)
            return
        self._drop_kept(name)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._keep_seconds, self._drop_kept, name)
        self._kept[name] = (upload, timer)
        while len(self._kept) > self._max_kept:
            self._drop_kept(next(iter(self._kept)))
        self._own(self._drop_if_stored(name))

    async def _resume(self, name: UploadName, offset: int) -> Upload:
        waited = 0.0
        while True:
            kept = self._kept.get(name)
            if kept is not None and kept[0].committed == offset and not kept[0].is_over:
                del self._kept[name]
                kept[1].cancel()
                return kept[0]
            active = self._active.get(name, set())
            if waited >= _SETTLE_SECONDS or all(upload.committed != offset for upload in active):
                committed = self.committed(name) or 0
                raise InvalidRequest(
                    f"write_offset of the first message is {offset}, "
                    f"but {committed} bytes of the upload are committed"
                )
            waited += _SETTLE_STEP
            await asyncio.sleep(_SETTLE_STEP)

    def _drop_kept(self, name: UploadName) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            kept[1].cancel()
            self._cancel(kept[0])

    async def _drop_if_stored(self, name: UploadName) -> None:
        if not await self._store.find_missing([name.blob.digest]):
            self._drop_kept(name)

    def _cancel(self, upload: Upload) -> None:
        self._own(upload.cancel())

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
