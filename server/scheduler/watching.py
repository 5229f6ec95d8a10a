"""Clients that wait for changes of operations."""

from __future__ import annotations

import asyncio

from remote_apis.errors import Unavailable
from server.scheduler.values import OperationSnapshot

_SETTLED_AFTER = 0.05
"""Seconds. An action that a worker is done with by then goes from queued to done in one message."""


class Watcher:
    """One client; it sees the latest snapshot, and misses those that were overtaken.

    The last one it sees at once, the others when nothing has followed for a moment.
    """

    def __init__(self) -> None:
        self._latest: OperationSnapshot | None = None
        self._changed = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._closed = False

    def tell(self, snapshot: OperationSnapshot) -> None:
        """There is a new snapshot."""
        self._latest = snapshot
        if snapshot.is_done:
            self._changed.set()
        elif self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(_SETTLED_AFTER, self._changed.set)

    def close(self) -> None:
        """There will be no more; the client should come back to whoever serves next."""
        self._closed = True
        self._changed.set()

    async def next(self, timeout: float | None) -> OperationSnapshot | None:
        """The next snapshot, or None when there was none for `timeout` seconds.

        Raises Unavailable once closed.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return None
        self._changed.clear()
        self.stop()
        if self._latest is None:
            raise Unavailable("the scheduler is shutting down; wait for the operation again")
        latest, self._latest = self._latest, None
        if self._closed:
            self._changed.set()
        return latest

    def stop(self) -> None:
        """Nobody waits for what has not been seen yet."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None


class Watchers:
    """All of them, by the name of the operation."""

    def __init__(self) -> None:
        self._by_name: dict[str, set[Watcher]] = {}
        self._closed = False

    def add(self, name: str) -> Watcher:
        """A new watcher of an operation."""
        watcher = Watcher()
        if self._closed:
            watcher.close()
        self._by_name.setdefault(name, set()).add(watcher)
        return watcher

    def discard(self, name: str, watcher: Watcher) -> None:
        """The client has gone."""
        watcher.stop()
        watchers = self._by_name.get(name)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self._by_name[name]

    def are_there(self, name: str) -> bool:
        """Whether anybody watches the operation."""
        return name in self._by_name

    def tell(self, snapshot: OperationSnapshot) -> None:
        """Wake those who watch the operation."""
        for watcher in self._by_name.get(snapshot.name, ()):
            watcher.tell(snapshot)

    def close(self) -> None:
        """Send all of them away."""
        self._closed = True
        for watchers in self._by_name.values():
            for watcher in watchers:
                watcher.close()
