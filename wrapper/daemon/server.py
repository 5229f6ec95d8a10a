"""Listens for shims, and ends when nobody has called for a long while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wrapper.daemon.caller import process_of, sees_the_same, umask_of
from wrapper.daemon.calls import CallHandler
from wrapper.daemon.configs import Configs
from wrapper.daemon.parts import Parts
from wrapper.daemon.protocol import BadCall, Call, Reply, read_call
from wrapper.daemon.script_calls import ScriptCallHandler
from wrapper.daemon.tally import build_of
from wrapper.daemon.telling import Warnings
from wrapper.wording import trouble

IDLE_SECONDS = 3 * 3600.0
LOOK_SECONDS = 5.0
_log = logging.getLogger("distbuild.daemon")


def _is_there(path: Path, inode: int) -> bool:
    """Whether a socket is there still: without its home nobody would find a daemon."""
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


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
        own = os.stat(path).st_ino
        async with server:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
                is_idle = time.monotonic() - self._last_call > IDLE_SECONDS
                if not self._active and (is_idle or not _is_there(path, own)):
                    return

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._active += 1
        reply, call = Reply(reader, writer), None
        try:
            call = await self._called(reader, writer, reply)
            if call is None:
                return
            self._parts.builds.note(build_of(call))
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

    async def _called(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply
    ) -> Call | None:
        """The call of a connection, or None where it is not for us. Raises BadCall."""
        process = process_of(writer.get_extra_info("socket"))
        call = replace(await read_call(reader), umask=umask_of(process))
        if sees_the_same(process):
            return self._configs.apply(call, reply.tell_user)
        line = "the daemon of this directory sees other files, being in another container"
        remedy = "compiling without it (DISTBUILD_HOME names a directory for this one)"
        self._warnings.warn(call, reply.tell_user, f"{line}; {remedy}", about="other files")
        reply.exec_rustc()
        await writer.drain()
        return None

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
