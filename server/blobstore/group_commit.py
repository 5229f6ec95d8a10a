"""Makes files durable, many with one trip to a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from server.blobstore.disk_layout import DiskLayout

_SYNCERS = 8
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFile:
    """A complete file under a temporary name. The committer closes the descriptor."""

    descriptor: int
    temporary: str
    final: str


@dataclass(slots=True)
class _Waiter:
    file: PendingFile
    done: Callable[[os.stat_result | None], None]
    future: asyncio.Future[None]


class GroupCommitter:
    """Renames files, syncs them and then their directories; a group at a time.

    What arrives while one group is being committed makes up the next. A commit that has begun
    goes on when its caller is cancelled.
    """

    def __init__(self, layout: DiskLayout, executor: Executor, *, durable: bool) -> None:
        self._layout = layout
        self._executor = executor
        self._durable = durable
        self._waiting: list[_Waiter] = []
        self._syncers = ThreadPoolExecutor(_SYNCERS, "blobstore-sync")
        self._running: asyncio.Future[None] | None = None

    async def commit(
        self, file: PendingFile, done: Callable[[os.stat_result | None], None]
    ) -> None:
        """Returns when the file is durable under its final name. Raises OSError.

        `done` runs on the event loop with the file's status at its final place, or None when it
        did not get there; before this returns, and even when the caller is cancelled meanwhile.
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
        self._syncers.shutdown()

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
                waiter.done(None)
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
        """The outcome for each file, all descriptors closed.

        Renaming before syncing takes one commit of the file system's journal where syncing before
        renaming takes two. Nobody reads the file before this returns, and what a crash in between
        leaves behind `DiskBlobStore` finds at the next start. A file that exists already is
        replaced only by one that is safe.
        """
        errors: dict[int, OSError] = {}
        directories: dict[str, list[int]] = {}
        replacing = [n for n, file in enumerate(files) if os.path.lexists(file.final)]
        fresh = [n for n in range(len(files)) if n not in replacing]
        self._place_all(files, fresh, directories, errors)
        in_place = [n for n in (*fresh, *replacing) if n not in errors]
        synced = self._sync_all(os.fsync, [files[n].descriptor for n in in_place])
        errors.update({n: e for n, e in zip(in_place, synced, strict=True) if e is not None})
        self._place_all(files, [n for n in replacing if n not in errors], directories, errors)
        synced = self._sync_all(_sync_directory, list(directories))
        for numbers, error in zip(directories.values(), synced, strict=True):
            if error is not None:
                errors.update(dict.fromkeys(numbers, error))
        return [self._outcome(file, errors.get(n)) for n, file in enumerate(files)]

    def _outcome(self, file: PendingFile, error: OSError | None) -> os.stat_result | OSError:
        try:
            if error is None:
                return os.fstat(file.descriptor)
            _unlink(file.temporary)
            return error
        finally:
            os.close(file.descriptor)

    def _place_all(
        self,
        files: Sequence[PendingFile],
        numbers: Sequence[int],
        directories: dict[str, list[int]],
        errors: dict[int, OSError],
    ) -> None:
        for number in numbers:
            try:
                changed = self._place(files[number])
            except OSError as error:
                errors[number] = error
                continue
            for directory in changed:
                directories.setdefault(directory, []).append(number)

    def _place(self, file: PendingFile) -> list[str]:
        """Give the file its final name; the directories that changed."""
        made = self._layout.make_parent(file.final)
        try:
            os.rename(file.temporary, file.final)
        except FileNotFoundError:  # somebody removed the directory
            self._layout.forget_directories()
            made = self._layout.make_parent(file.final)
            os.rename(file.temporary, file.final)
        return [os.path.dirname(file.final), *made]

    def _sync_all(self, sync: Callable[[_T], None], targets: Sequence[_T]) -> list[OSError | None]:
        """Sync side by side: the file system makes one journal commit of many requests."""
        if not self._durable:
            return [None] * len(targets)

        def attempt(target: _T) -> OSError | None:
            try:
                sync(target)
            except OSError as error:
                return error
            return None

        if len(targets) <= 1:
            return [attempt(target) for target in targets]
        return list(self._syncers.map(attempt, targets))


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
