"""Makes files durable, many with one trip to a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from server.blobstore.disk_layout import DiskLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFile:
    """A complete file under a temporary name. The committer closes the descriptor."""

    descriptor: int
    temporary: str
    final: str


@dataclass(slots=True)
class _Waiter:
    file: PendingFile
    done: Callable[[os.stat_result], None]
    future: asyncio.Future[None]


class GroupCommitter:
    """Syncs each file, renames it and syncs its directory; a group at a time.

    What arrives while one group is being committed makes up the next. A commit that has begun
    goes on when its caller is cancelled.
    """

    def __init__(self, layout: DiskLayout, executor: Executor, *, durable: bool) -> None:
        self._layout = layout
        self._executor = executor
        self._durable = durable
        self._waiting: list[_Waiter] = []
        self._running: asyncio.Future[None] | None = None

    async def commit(self, file: PendingFile, done: Callable[[os.stat_result], None]) -> None:
        """Returns when the file is durable under its final name. Raises OSError.

        `done` runs on the event loop with the file's status at its final place, before this
        returns, and even when the caller is cancelled meanwhile.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiter(file, done, future))
        if self._running is None:
            self._start()
        await asyncio.shield(future)

    async def close(self) -> None:
        """Wait until nothing is under way."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def _start(self) -> None:
        group, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        files = [waiter.file for waiter in group]
        running = loop.run_in_executor(self._executor, self._commit_group, files)
        self._running = loop.create_future()
        running.add_done_callback(lambda finished: self._finish(group, finished))

    def _finish(
        self, group: list[_Waiter], finished: asyncio.Future[Sequence[os.stat_result | OSError]]
    ) -> None:
        running, self._running = self._running, None
        failure = finished.exception()
        outcomes = [failure] * len(group) if failure else finished.result()
        for waiter, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                waiter.future.set_exception(outcome)
                waiter.future.exception()  # a caller that is gone does not ask
            else:
                waiter.done(outcome)
                waiter.future.set_result(None)
        if self._waiting:
            self._start()
        assert running is not None
        running.set_result(None)

    def _commit_group(self, files: Sequence[PendingFile]) -> Sequence[os.stat_result | OSError]:
        outcomes: list[os.stat_result | OSError] = []
        directories: dict[str, list[int]] = {}
        for number, file in enumerate(files):
            try:
                outcomes.append(self._place(file, number, directories))
            except OSError as error:
                _unlink(file.temporary)
                outcomes.append(error)
            finally:
                os.close(file.descriptor)
        if self._durable:
            for directory, numbers in directories.items():
                try:
                    _sync_directory(directory)
                except OSError as error:
                    for number in numbers:
                        outcomes[number] = error
        return outcomes

    def _place(
        self, file: PendingFile, number: int, directories: dict[str, list[int]]
    ) -> os.stat_result:
        if self._durable:
            os.fsync(file.descriptor)
        made = self._layout.make_parent(file.final)
        try:
            os.rename(file.temporary, file.final)  # noqa: PTH104
        except FileNotFoundError:  # somebody removed the directory
            self._layout.forget_directories()
            made = self._layout.make_parent(file.final)
            os.rename(file.temporary, file.final)  # noqa: PTH104
        for directory in (os.path.dirname(file.final), *made):  # noqa: PTH120
            directories.setdefault(directory, []).append(number)
        return os.fstat(file.descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
