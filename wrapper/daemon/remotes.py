"""The servers that builds use, and the one warning a build when one is out of reach."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DistbuildError
from wrapper.daemon.embedded import EmbeddedServer
from wrapper.daemon.protocol import Call
from wrapper.daemon.telling import Tell, Warnings
from wrapper.home import EMBEDDED, Home, RemoteSettings
from wrapper.preferred import PREFERRED
from wrapper.remote import Remote

_LEARN_SECONDS = 15.0
_LOG = logging.getLogger("distbuild.remotes")


class Remotes:
    """Open connections by address and instance name."""

    def __init__(self, embedded: EmbeddedServer, home: Home) -> None:
        self._embedded = embedded
        self._jobs = home.jobs
        self._sha256_servers = _LinesFile(home.sha256_servers)
        self._learn_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[tuple[str, str], Remote] = {}
        self._warnings = Warnings()

    async def get(self, settings: RemoteSettings, call: Call, tell: Tell) -> Remote | str | None:
        """The server of a build, None when it wants none, or why it cannot be had.

        Of a failure the user is told, once.
        """
        if settings.url is None:
            return None
        try:
            url = settings.url
            if url == EMBEDDED:
                url = await self._embedded.address(call.settings)
            key = (url, settings.instance)
            if key not in self._open:
                self._open[key] = Remote(url, settings.instance, self.expected_function(url))
            remote = self._open[key]
            self._learn_jobs(remote)
            await remote.learn_function()
            self._sha256_servers.note(url, is_in=remote.function is DigestFunction.SHA256)
            return remote
        except DistbuildError as error:
            self._warn(settings, call, tell, str(error))
            return str(error)

    def expected_function(self, url: str | None) -> DigestFunction:
        """The digest function of a server, as far as it is known without asking."""
        if url is not None and url in self._sha256_servers:
            return DigestFunction.SHA256
        return PREFERRED

    def _learn_jobs(self, remote: Remote) -> None:
        """Write down, now and then, how many units builds with this server may have under way."""
        now = time.monotonic()
        if now >= self._learn_at.get(remote.url, 0.0):
            self._learn_at[remote.url] = now + _LEARN_SECONDS
            task = asyncio.create_task(self._write_jobs(remote))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write_jobs(self, remote: Remote) -> None:
        cores = os.cpu_count() or 1
        try:
            slots = await remote.slots() or 0
            # hits wait for the server most of their time: twice the cores at least
            self._jobs.write_text(f"{remote.url} {cores + max(slots, cores)}\n")
        except (DistbuildError, OSError) as error:
            _LOG.info("the number of jobs stays as it was: %s", error)

    def warn_if_down(self, settings: RemoteSettings, call: Call, tell: Tell) -> None:
        """Tell the user, once a build, that the build goes on without its server."""
        url = self._embedded.last_address if settings.url == EMBEDDED else settings.url
        remote = self._open.get((url or "", settings.instance))
        if remote is not None and remote.is_down:
            self._warn(settings, call, tell, f"the server {remote.url} {remote.trouble}")

    def _warn(self, settings: RemoteSettings, call: Call, tell: Tell, why: str) -> None:
        self._warnings.warn(call, tell, f"{why}; compiling on this machine", about=settings.url)

    async def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for remote in self._open.values():
            await remote.close()


class _LinesFile:
    """A set of lines, kept in a file; one that cannot be read or written is an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._lines = set(path.read_text().splitlines())
        except (OSError, ValueError):
            self._lines = set()

    def __contains__(self, line: str) -> bool:
        return line in self._lines

    def note(self, line: str, *, is_in: bool) -> None:
        """Put a line in, or take it out."""
        if (line in self._lines) == is_in:
            return
        self._lines.symmetric_difference_update({line})
        try:
            self._path.write_text("".join(f"{line}\n" for line in sorted(self._lines)))
        except OSError as error:
            _LOG.info("%s is not written: %s", self._path, error)
