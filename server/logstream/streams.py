"""All log streams of a server."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from remote_apis.errors import InvalidRequest, NotFound, OutOfSpace
from server.logstream.names import LogName, check_parent, is_log_name, parse_log_name
from server.logstream.stream import LogStream, Whole

_ID_BYTES = 16
_SWEEPS = 10
"""How often streams are looked through within the time that one is kept."""


class LogStreams:
    """Streams for the time of a server's life; none outlives it. Close it at the end.

    At most `max_streams` of `max_bytes` each; when there are too many, finished ones go before
    their time. A stream that nobody has written to for `keep_seconds` is removed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_streams: int = 1000,
        max_bytes: int = 64 * 1024 * 1024,
        keep_seconds: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`directory` is this object's alone: what is in it is removed."""
        self._directory = directory
        self._max_streams = max_streams
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._streams: OrderedDict[str, LogStream] = OrderedDict()  # dict is slow at its front
        self._timer: asyncio.TimerHandle | None = None
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)

    def close(self) -> None:
        """Remove all streams."""
        if self._timer is not None:
            self._timer.cancel()
        for stream in self._streams.values():
            stream.remove()
        self._streams.clear()

    def create(self, parent: str) -> LogName:
        """A new stream; the name carries the token. Raises InvalidRequest, OutOfSpace."""
        check_parent(parent)
        self._make_room()
        random = secrets.token_hex(2 * _ID_BYTES)
        name = LogName(
            parent=parent, stream_id=random[: 2 * _ID_BYTES], token=random[2 * _ID_BYTES :]
        )
        path = self._directory / name.stream_id
        stream = LogStream(name, path, max_bytes=self._max_bytes, now=self._clock())
        self._streams[name.stream_id] = stream
        if self._timer is None:
            self._sweep_later()
        return name

    def owns(self, name: str) -> bool:
        """Whether the resource name is one of a log stream, be there one or not."""
        return is_log_name(name)

    def has(self, name: LogName) -> bool:
        """Whether the stream is one of these."""
        return name.stream_id in self._streams

    def keep(self, name: LogName) -> None:
        """It is in use, and stays even if nobody writes to it."""
        stream = self._streams.get(name.stream_id)
        if stream is not None:
            self.touch(stream)

    def touch(self, stream: LogStream) -> None:
        """It is in use, and stays for its time from now."""
        stream.touched = self._clock()

    def finish(self, name: LogName, whole: Whole | None = None) -> None:
        """Nobody will write any more, whether the writer has said so or not.

        `whole` as in `LogStream.finish`.
        """
        stream = self._streams.get(name.stream_id)
        if stream is not None and not stream.is_finished:
            stream.finish(whole)

    def readable(self, name: str) -> LogStream:
        """The stream. Raises InvalidRequest for a name for writing, NotFound."""
        parsed = parse_log_name(name)
        if parsed.token is not None:
            raise InvalidRequest(f"{parsed.stream_id} is named for writing; leave out the token")
        return self._find(parsed)

    def writable(self, name: str) -> LogStream:
        """The stream. Raises InvalidRequest for a name for reading, NotFound."""
        parsed = parse_log_name(name)
        if parsed.token is None:
            raise InvalidRequest(
                f"log stream {parsed.stream_id} is named for reading; write to write_resource_name"
            )
        stream = self._find(parsed)
        if not hmac.compare_digest(parsed.token.encode(), (stream.name.token or "").encode()):
            raise NotFound(f"there is no log stream {name[:300]!r}")
        return stream

    def _find(self, name: LogName) -> LogStream:
        stream = self._streams.get(name.stream_id)
        if stream is None or stream.name.parent != name.parent:
            raise NotFound(f"there is no log stream {name.stream_id[:160]!r}")
        return stream

    def _make_room(self) -> None:
        if len(self._streams) < self._max_streams:
            return
        # Nearly always the first: this happens with every action of a busy server.
        oldest = next((each for each in self._streams.values() if each.is_finished), None)
        if oldest is not None:
            self._remove(oldest)
            return
        self._remove_idle()
        if len(self._streams) >= self._max_streams:
            raise OutOfSpace(f"there are {self._max_streams} log streams already")

    def _remove_idle(self) -> None:
        before = self._clock() - self._keep_seconds
        for stream in [each for each in self._streams.values() if each.touched <= before]:
            self._remove(stream)

    def _remove(self, stream: LogStream) -> None:
        del self._streams[stream.name.stream_id]
        stream.remove()

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._keep_seconds / _SWEEPS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        self._remove_idle()
        if self._streams:
            self._sweep_later()
