"""One log stream: a file that grows, and those who wait for it to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from remote_apis.errors import (
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    OffsetOutOfRange,
    OutOfSpace,
)
from server.logstream.names import LogName

_CHUNK = 1024 * 1024


class Whole(Protocol):
    """All that a stream would have carried, kept elsewhere."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read(self, offset: int, limit: int) -> AsyncGenerator[bytes, None]:
        """So many of them, from an offset on."""
        ...


class LogStream:
    """`name` carries the token. Bytes that are committed never change.

    `touched` is when it was last written to, by the caller's clock.
    """

    def __init__(self, name: LogName, path: Path, *, max_bytes: int, now: float) -> None:
        """The file is made with the first bytes: most actions print none."""
        self.name = name
        self.touched = now
        self.is_finished = False
        self._committed = 0
        self._whole: Whole | None = None
        self._path = path
        self._max_bytes = max_bytes
        self._has_file = False
        self._is_removed = False
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return self._committed if self._whole is None else self._whole.size

    def remove(self) -> None:
        """Delete it; its readers end with NotFound."""
        self._is_removed = True
        if self._has_file:
            self._path.unlink(missing_ok=True)
        self._tell()

    def finish(self, whole: Whole | None = None) -> None:
        """Nothing will be appended any more.

        What has been committed must be the beginning of `whole`, where readers find the rest.
        """
        if whole is not None and not self.is_finished and whole.size > self._committed:
            self._whole = whole
        self.is_finished = True
        self._tell()

    async def append(self, offset: int, data: bytes, *, finish: bool) -> None:
        """Commit bytes behind those committed. Raises InvalidRequest for another offset.

        FailedPrecondition when it is finished, OutOfSpace when it would become too large,
        NotFound when it has been removed. A last message sent again is fine. When cancelled, a
        part may be committed.
        """
        async with self._writing:
            self._check_is_there()
            if self.is_finished and finish and not data and offset == self.size:
                return
            self._check_is_open()
            if offset != self.size:
                raise InvalidRequest(
                    f"write_offset is {offset}, but {self.size} bytes are committed"
                )
            if self.size + len(data) > self._max_bytes:
                raise OutOfSpace(f"a log stream holds at most {self._max_bytes} bytes")
            for start in range(0, len(data), _CHUNK):
                if start:
                    await asyncio.sleep(0)
                    self._check_is_there()
                    self._check_is_open()
                self._commit(data[start : start + _CHUNK])
            if finish:
                self.finish()

    async def read(self, offset: int, limit: int) -> AsyncGenerator[bytes, None]:
        """Bytes from an offset on, at most `limit` (0: all); waits until there are no more to come.

        Raises OffsetOutOfRange when it ends before the offset, NotFound when it is removed.
        """
        end = offset + limit if limit else sys.maxsize
        while offset < end or offset > self.size:
            self._check_is_there()
            if offset < self._committed:
                chunk = self._read(offset, min(_CHUNK, self._committed - offset, end - offset))
                offset += len(chunk)
                yield chunk
            elif self._whole is not None and offset < self._whole.size:
                most = min(self._whole.size, end) - offset
                async with aclosing(self._whole.read(offset, most)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            elif self.is_finished:
                break
            else:
                await self._changed.wait()
        if offset > self.size:
            raise OffsetOutOfRange(
                f"read_offset {offset} lies beyond the {self.size} bytes of the log stream"
            )

    def _read(self, offset: int, size: int) -> bytes:
        with self._path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def _commit(self, data: bytes) -> None:
        self._has_file = True
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.seek(self._committed)
                file.write(data)
        except OSError as error:
            raise OutOfSpace(f"cannot write to a log stream: {error.strerror}") from error
        self._committed += len(data)
        self._tell()

    def _check_is_open(self) -> None:
        if self.is_finished:
            raise FailedPrecondition(f"log stream {self.name.stream_id} is finished")

    def _check_is_there(self) -> None:
        if self._is_removed:
            raise NotFound(f"log stream {self.name.stream_id} has been removed")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
