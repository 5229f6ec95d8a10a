"""DISTBUILD_HOME: permissions, room, and what runs from it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from wrapper.checks.finding import Finding, fail, ok, warn
from wrapper.home import (
    EMBEDDED,
    RETRIED_SECONDS,
    Home,
    RemoteSettings,
    short_socket_directory,
)
from wrapper.version import code_stamp

LITTLE = 2 << 30
TOO_LITTLE = 100 << 20
_SOCKET_PATH = 107


def check_home(home: Home) -> Finding:
    """The directory can be written, by this user alone."""
    try:
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=home.path):
            st = home.path.stat()
    except OSError as error:
        remedy = "make it writable, or set DISTBUILD_HOME to a directory that is"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = _free_some(home)
        return fail("home", f"{home.path}: {error.strerror}", remedy)
    if st.st_uid != os.geteuid():
        remedy = "set DISTBUILD_HOME to a directory of your own; the daemon belongs to one user"
        return warn("home", f"{home.path} belongs to another user", remedy)
    if st.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        remedy = f"chmod go-w {home.path}"
        return fail("home", f"{home.path} can be written by others, who can run code so", remedy)
    return ok("home", str(home.path))


def check_room(home: Home) -> Finding:
    """There is room for results."""
    try:
        free = shutil.disk_usage(home.path).free
    except OSError as error:
        return fail("room", f"{home.path}: {error.strerror}", "set DISTBUILD_HOME")
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < TOO_LITTLE:
        return fail("room", text, _free_some(home))
    return warn("room", text, _free_some(home)) if free < LITTLE else ok("room", text)


def _free_some(home: Home) -> str:
    return f"free some of the disk, or delete {home.path} while no build runs"


def check_sockets(home: Home, environment: Mapping[str, str]) -> Finding:
    """Addresses of Unix sockets have 107 bytes."""
    url = RemoteSettings.of(environment).url or ""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if len(os.fsencode(path)) > _SOCKET_PATH:
            text = f"the server's path has {len(os.fsencode(path))} bytes, {_SOCKET_PATH} fit"
            return fail("sockets", text, "give the server a shorter path")
    directory = short_socket_directory(home)
    if directory != home.path:
        return ok("sockets", f"{home.path} is long: the embedded server's lies in {directory}")
    return ok("sockets", f"in {directory}")


def check_daemon(home: Home) -> Finding:
    """The daemon runs, or nothing says that it cannot."""
    socket = home.path / "daemon.sock"
    if socket.exists() and not os.access(socket, os.W_OK):
        remedy = "remove it, or have DISTBUILD_HOME name a directory of your own"
        return fail("daemon", f"{socket} is another user's", remedy)
    failed = home.daemon_failed
    if failed.exists() and time.time() - failed.stat().st_mtime < RETRIED_SECONDS:
        remedy = f"look into {home.path / 'daemon.log'}"
        return fail("daemon", "it did not start, less than a minute ago", remedy)
    state = _state(home.daemon_state)
    if state is None:
        return ok("daemon", "not running; the next build starts it")
    if state.get("stamp") != code_stamp():
        return ok("daemon", f"process {state['pid']} is of another version; a build replaces it")
    return ok("daemon", f"process {state['pid']}")


def server_address(home: Home, environment: Mapping[str, str]) -> str | None:
    """The address to ask; None without a server, or while the embedded one does not run."""
    url = RemoteSettings.of(environment).url
    if url != EMBEDDED:
        return url
    state = _state(home.server_state)
    return str(state["address"]) if state else None


def _state(path: Path) -> dict[str, object] | None:
    """What a running process wrote of itself."""
    try:
        state = json.loads(path.read_text())
        os.kill(int(state["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if isinstance(state, dict) else None
