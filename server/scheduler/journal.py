"""Writes operations to the repository: many at a time, and never more often than needed."""

from __future__ import annotations

import asyncio
import logging

from remote_apis.errors import DistbuildError, OutOfSpace, Unavailable
from server.scheduler.ports import OperationRepository
from server.scheduler.values import OperationRecord

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_PACE = 0.004
"""Seconds from one write to the next: a commit costs more than the records in it."""


class Journal:
    """One writer in front of a repository.

    Urgent records go out at once, or a few milliseconds after the ones before, all that have come
    up meanwhile in one transaction. The others wait for `lazy_delay` to twice that, and are dropped
    when an urgent record of the same operation overtakes them: an action that runs for a moment is
    then written twice and not four times.
    """

    def __init__(
        self, repository: OperationRepository, *, lazy_delay: float = 1.0, patience: float = 10.0
    ) -> None:
        """`patience`: how many seconds a write is tried again before its waiters are told."""
        self._repository = repository
        self._lazy_delay = lazy_delay
        self._patience = patience
        self._urgent: dict[str, OperationRecord] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._young: dict[str, OperationRecord | None] = {}
        self._old: dict[str, OperationRecord | None] = {}
        self._wake = asyncio.Event()
        self._closing = False

    def put(self, record: OperationRecord) -> asyncio.Future[None]:
        """Write a record now; the future is done when it is durable.

        It fails with OutOfSpace when there is no room for it, and with Unavailable when the
        repository could not be written for `patience` seconds.
        """
        self._young.pop(record.name, None)
        self._old.pop(record.name, None)
        self._urgent[record.name] = record
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        return waiter

    def put_lazily(self, record: OperationRecord) -> None:
        """Write a record when there is time."""
        if record.name in self._urgent:
            self._urgent[record.name] = record
        else:
            self._old.pop(record.name, None)
            self._young[record.name] = record

    def remove(self, name: str) -> None:
        """Remove a record when there is time."""
        self._old.pop(name, None)
        self._young[name] = None

    async def run(self) -> None:
        """Write until closed."""
        loop = asyncio.get_running_loop()
        turn_at = loop.time() + self._lazy_delay
        ready_at = 0.0
        while not self._closing:
            if not self._urgent:
                await self._sleep(turn_at - loop.time())
            elif loop.time() < ready_at:
                await asyncio.sleep(ready_at - loop.time())
            ready_at = loop.time() + _PACE
            lazy: dict[str, OperationRecord | None] = {}
            if loop.time() >= turn_at:
                turn_at = loop.time() + self._lazy_delay
                lazy, self._old, self._young = self._old, self._young, {}
            await self._flush(lazy)
        await self._flush(self._old | self._young)

    def close(self) -> None:
        """Let `run` write what is left and return."""
        self._closing = True
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        if self._closing or seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _flush(self, lazy: dict[str, OperationRecord | None]) -> None:
        urgent, self._urgent = self._urgent, {}
        waiters, self._waiters = self._waiters, []
        put = [record for record in lazy.values() if record is not None]
        removed = [name for name, record in lazy.items() if record is None]
        put.extend(urgent.values())
        if not put and not removed:
            return
        failure = await self._write(put, removed)
        for waiter in waiters:
            if waiter.done():
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                kind = OutOfSpace if isinstance(failure, OutOfSpace) else Unavailable
                waiter.set_exception(kind(f"the queue cannot be kept: {failure}"))

    async def _write(self, put: list[OperationRecord], removed: list[str]) -> DistbuildError | None:
        deadline = asyncio.get_running_loop().time() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._repository.apply(put, removed)
                return None
            except DistbuildError as error:
                _LOG.warning("writing %d operation(s) failed: %s", len(put), error)
                is_full = isinstance(error, OutOfSpace)
                if is_full or asyncio.get_running_loop().time() + pause > deadline:
                    return error
            except Exception as error:  # noqa: BLE001 - one bad record must not stop the queue
                _LOG.exception("writing %d operation(s) failed", len(put))
                return Unavailable(f"a record was refused: {error}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
