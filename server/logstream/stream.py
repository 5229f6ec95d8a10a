"""One log stream: a file that grows, and those who wait for it to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from remote_apis.errors import (
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    OffsetOutOfRange,
    OutOfSpace,
)
from server.logstream.names import LogName

_CHUNK = 1024 * 1024


class LogStream:
    """`name` carries the token. Bytes that are committed never change.

    `touched` is when it was last written to, by the caller's clock.
    """

    def __init__(self, name: LogName, path: Path, *, max_bytes: int, now: float) -> None:
        """Makes the file. Raises OutOfSpace."""
        self.name = name
        self.touched = now
        self.size = 0
        self.is_finished = False
        self._path = path
        self._max_bytes = max_bytes
        self._is_removed = False
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        try:
            path.touch(0o600, exist_ok=False)
        except OSError as error:
            raise OutOfSpace(f"cannot keep a log stream: {error.strerror}") from error

    def remove(self) -> None:
        """Delete it; its readers end with NotFound."""
        self._is_removed = True
        self._path.unlink(missing_ok=True)
        self._tell()

    def finish(self) -> None:
        """Nothing will be appended any more."""
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

    async def read(self, offset: int, limit: int) -> AsyncIterator[bytes]:
        """Bytes from an offset on, at most `limit` (0: all); waits until there are no more to come.

        Raises OffsetOutOfRange when it ends before the offset, NotFound when it is removed.
        """
        end = min(offset + limit, self._max_bytes) if limit else self._max_bytes
        self._check_is_there()
        with self._path.open("rb", buffering=0) as file:
            while offset < end or offset > self.size:
                if offset < self.size:
                    size = min(_CHUNK, self.size - offset, end - offset)
                    chunk = os.pread(file.fileno(), size, offset)
                    offset += len(chunk)
                    yield chunk
                elif self.is_finished:
                    break
                else:
                    await self._changed.wait()
                self._check_is_there()
        if offset > self.size:
            raise OffsetOutOfRange(
                f"read_offset {offset} lies beyond the {self.size} bytes of the log stream"
            )

    def _commit(self, data: bytes) -> None:
        try:
            with self._path.open("r+b") as file:
                file.seek(self.size)
                file.write(data)
        except OSError as error:
            raise OutOfSpace(f"cannot write to a log stream: {error.strerror}") from error
        self.size += len(data)
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
