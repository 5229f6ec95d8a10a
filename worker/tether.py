"""The pipe that ties actions to their worker: they do not outlive it, however it ends.

bubblewrap's --die-with-parent alone is not enough. It takes effect once the sandbox is set up, by
two processes one after the other, and a worker killed before that would leave the first process of
the namespace waiting for ever, or the action running.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker import survivors

_LOG = logging.getLogger(__name__)
_NAME = "processes"
_PATIENCE = 30.0


@contextmanager
def tether(directory: Path) -> Iterator[int]:
    """A descriptor for sandboxes to hold, at first of all ending what an earlier worker left.

    A program beside this process kills who still holds it when this process is gone. Both may be
    killed at once, hence the pipe has a name in `directory`, by which the next worker finds it;
    one worker at a time uses that. Raises OSError. Blocks for some milliseconds.
    """
    end_earlier(directory)
    path = directory / _NAME
    os.mkfifo(path, 0o600)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        holding = os.open(path, os.O_WRONLY)
        try:
            watcher = _start_watcher(reading)
        except OSError:
            os.close(holding)
            raise
        try:
            yield holding
        finally:
            os.close(holding)
            assert watcher.stdin is not None
            watcher.stdin.close()
            watcher.wait()
    finally:
        os.close(reading)
        path.unlink(missing_ok=True)


def end_earlier(directory: Path) -> None:
    """Kill the worker that uses the directory, if one does, and all that earlier ones left. Blocks.

    Raises OSError.
    """
    path = directory / _NAME
    try:
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        if not survivors.end_holders(pipe, survivors.ALL, patience=_PATIENCE):
            _LOG.warning("processes of an earlier worker's actions cannot be killed")
    finally:
        os.close(pipe)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _start_watcher(pipe: int) -> subprocess.Popen[bytes]:
    # In a session of its own, where no Ctrl-C and no signal to the worker's group reaches it.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", survivors.__file__, str(pipe), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        pass_fds=(pipe,),
        start_new_session=True,
    )
