"""Start over: stop the daemon and the embedded server."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from wrapper.home import Home
from wrapper.shim.install import write_start_script
from wrapper.version import code_stamp

_STOP_TIMEOUT = 40.0  # the daemon stores what is yet to be stored, for 30 s at most
_START_TIMEOUT = 10.0


def replace_outdated_daemon(home: Home) -> None:
    """Stop a daemon of other code than this; the next rustc starts a new one."""
    state = _read(home.daemon_state)
    if state is not None and state.get("stamp") != code_stamp():
        _stop(home.daemon_state, "wrapper.daemon")


def start_daemon_early(home: Home) -> bool:
    """Have the daemon start while the shim is compiled and cargo reads manifests. Raises OSError.

    Returns whether it was started. If it cannot start, each shim tries, and says so.
    """
    if (home.path / "daemon.sock").exists():
        return False
    write_start_script(home)
    subprocess.Popen(
        ["/bin/sh", home.start_daemon], start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return True


def stop_all(home: Home) -> int:
    """Stop both; 0 even when nothing ran."""
    _await_start(home)
    for path, mark in ((home.daemon_state, "wrapper.daemon"), (home.server_state, "serve")):
        if _stop(path, mark):
            print(f"stopped {'the daemon' if path == home.daemon_state else 'the server'}")
    return 0


def _await_start(home: Home) -> None:
    """Wait until a daemon that is starting has said which process it is."""
    deadline = time.monotonic() + _START_TIMEOUT
    while _is_locked(home.daemon_lock) and time.monotonic() < deadline:
        pid = (_read(home.daemon_state) or {}).get("pid")
        if isinstance(pid, int) and _is(pid, "wrapper.daemon"):
            return
        time.sleep(0.01)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read(path: Path) -> dict[str, object] | None:
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _stop(state_file: Path, mark: str) -> bool:
    """Stop the process that a state file names, if it is what it was."""
    pid = (_read(state_file) or {}).get("pid")
    if not isinstance(pid, int) or not _is(pid, mark):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT
    while _is(pid, mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    if _is(pid, mark):
        print(f"warning: distbuild: process {pid} does not end; killing it", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    state_file.unlink(missing_ok=True)
    return True


def _is(pid: int, mark: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return mark.encode() in command
