"""Listens for shims, and ends when nobody has called for a long while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from wrapper.daemon.calls import CallHandler
from wrapper.daemon.configs import Configs
from wrapper.daemon.parts import Parts
from wrapper.daemon.protocol import BadCall, Call, Reply, read_call
from wrapper.daemon.script_calls import ScriptCallHandler
from wrapper.daemon.telling import Warnings
from wrapper.wording import trouble

IDLE_SECONDS = 3 * 3600.0
_log = logging.getLogger("distbuild.daemon")


class DaemonServer:
    """Answers every connection in a task of its own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._configs = Configs()
        self._active = 0
        self._warnings = Warnings()
        self._last_call = time.monotonic()

    async def serve(self, stop: asyncio.Event) -> None:
        """Listen at `daemon.sock` in the home directory until `stop` is set or idle for hours."""
        path = self._parts.home.path / "daemon.sock"
        path.unlink(missing_ok=True)
        with _short_path(path) as short:
            server = await asyncio.start_unix_server(self._connected, short, limit=1 << 20)
        os.chmod(path, 0o600)
        async with server:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 60.0)
                if not self._active and time.monotonic() - self._last_call > IDLE_SECONDS:
                    return

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._active += 1
        reply, call = Reply(reader, writer), None
        try:
            call = self._configs.apply(await read_call(reader), reply.tell_user)
            handler = ScriptCallHandler if call.kind == "script" else CallHandler
            await handler(parts=self._parts, call=call, reply=reply).answer()
            await writer.drain()
        except BadCall as error:
            _log.warning("a call that is none: %s", error)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if getattr(error, "partial", True):  # else it asked no more than whether we are there
                _log.info("a shim went away")
        except Exception as error:  # noqa: BLE001
            # whatever it is, the build must go on: the shim runs rustc when nothing was answered
            _log.exception("a call failed")
            if not reply.is_ended:
                self._warn(call, reply, error)
                reply.exec_rustc()
        finally:
            self._active -= 1
            self._last_call = time.monotonic()
            with contextlib.suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    def _warn(self, call: Call | None, reply: Reply, error: Exception) -> None:
        """Tell the user, once a build, that something is wrong: a full disk, most often."""
        if call is not None:
            why = trouble(error) or type(error).__name__
            line = f"{why}; compiling without it (see `doctor`)"
            self._warnings.warn(call, reply.tell_user, line)


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits a socket address, however deep it lies."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
