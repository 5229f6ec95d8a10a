"""The directory that a worker has for itself."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from remote_apis.errors import InvalidRequest
from worker.config import WorkerConfig
from worker.removal import remove_tree
from worker.tether import end_earlier, tether

_GRACE = 3.0
_PATIENCE = 30.0
_PAUSE = 0.05


@contextmanager
def own_directory(config: WorkerConfig) -> Iterator[int]:
    """Make the directory, lock it, and clear what a worker that was killed left there.

    Gives what ties actions to this process, see `worker.tether`. Raises InvalidRequest when the
    directory cannot be used, or another worker does. Blocks.
    """
    directory = config.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        if not _lock(handle, 0.0) and not (
            config.ends_predecessor and _lock_from_predecessor(handle, directory)
        ):
            raise InvalidRequest(f"worker directory {directory} is used by another worker")
        leftovers = directory / "slots"
        with ExitStack() as stack:
            try:
                processes = stack.enter_context(tether(directory))
                remove_tree(leftovers)
                leftovers.mkdir()
            except OSError as error:
                raise _unusable(directory, error) from error
            yield processes
            remove_tree(leftovers)
    finally:
        os.close(handle)


def _lock_from_predecessor(handle: int, directory: Path) -> bool:
    """Let it report what it is about to finish, then end it."""
    if _lock(handle, _GRACE):
        return True
    end_earlier(directory)
    return _lock(handle, _PATIENCE)


def _lock(handle: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def _unusable(directory: Path, error: OSError) -> InvalidRequest:
    return InvalidRequest(f"worker directory {directory} cannot be used: {error.strerror}")
