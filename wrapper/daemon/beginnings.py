"""What is done when a build begins, before cargo asks for anything: hash the toolchain, fetch what
builds of the same took; and when it is over, tell the server what this one took."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from wrapper.daemon.cargos import cargos_arguments, cargos_directory
from wrapper.daemon.compiler_question import CompilerQuestion
from wrapper.daemon.lines import BuildLines
from wrapper.daemon.protocol import Call
from wrapper.daemon.tally import build_of
from wrapper.home import Home
from wrapper.inputs.collect import Collector
from wrapper.local_tier import LocalTier
from wrapper.lock_file import find_lock
from wrapper.manifests import (
    Manifest,
    fetch_ahead,
    manifest_action,
    publish_manifest,
)
from wrapper.meter import start_meter
from wrapper.remote import Remote
from wrapper.rustc.arguments import NotUnderstood
from wrapper.stats import add_download

_BUILDS = 20
_QUIET_SECONDS = 2.0
_CLOSE_SECONDS = 20.0
_LOG = logging.getLogger("distbuild.beginnings")


@dataclass(slots=True)
class _Build:
    manifest: Manifest
    remote: Remote
    timer: asyncio.TimerHandle | None = None


class Beginnings:
    """Builds with a server that are under way. One a daemon."""

    def __init__(
        self, home: Home, collector: Collector, local: LocalTier, lines: BuildLines
    ) -> None:
        self._home = home
        self._collector = collector
        self._local = local
        self._lines = lines
        self._builds: OrderedDict[str, _Build | None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def hash_compiler(self, question: CompilerQuestion, environment: Mapping[str, str]) -> None:
        """A build is about to begin: hash the compiler that it will most likely use."""
        self._start(self._hash_compiler(question, environment))

    def first(self, call: Call, driver: str, remote: Remote) -> None:
        """A build uses a server; does nothing when it was seen before. Returns at once."""
        build = build_of(call)
        if build not in self._builds:
            self._builds[build] = None
            if len(self._builds) > _BUILDS:
                self._builds.popitem(last=False)
            self._start(self._fetch_ahead(build, call, driver, remote))

    def note(self, build: str, unit: str, key: Digest) -> None:
        """A unit of a build has, or will have, a result under a key that others share."""
        found = self._builds.get(build)
        if found is None:
            return
        found.manifest.note(unit, key)
        if found.timer is not None:
            found.timer.cancel()
        loop = asyncio.get_running_loop()
        found.timer = loop.call_later(_QUIET_SECONDS, self._end, found)

    async def close(self) -> None:
        """Tell what is not told yet, and stop."""
        for build in self._builds.values():
            if build is not None and build.timer is not None:
                build.timer.cancel()
                self._end(build)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, build: _Build) -> None:
        build.timer = None
        if build.manifest.tells_more and not build.remote.is_down:
            self._start(_publish(build))

    async def _fetch_ahead(self, build: str, call: Call, driver: str, remote: Remote) -> None:
        meter = start_meter(lambda: None)
        try:
            lock = find_lock(cargos_directory(call))
            if lock is None or remote.is_down:
                return
            compiler = self._collector.compiler(driver, call.environment)
            arguments = cargos_arguments(call)
            action = manifest_action(lock, arguments, compiler, remote.function)
            manifest = Manifest(action=action)
            self._builds[build] = _Build(manifest, remote)
            await fetch_ahead(manifest, remote, self._local)
        except* (DistbuildError, NotUnderstood, OSError) as group:
            _LOG.info("not all is fetched ahead: %s", group.exceptions[0])
        if meter.downloaded:
            self._lines.add(build, add_download(self._home, build, meter.downloaded))

    async def _hash_compiler(
        self, question: CompilerQuestion, environment: Mapping[str, str]
    ) -> None:
        """If cargo uses another one, that is hashed when it comes."""

        def hash_toolchain() -> None:
            self._collector.hash_toolchain(question.answer(), environment)

        try:
            await asyncio.to_thread(hash_toolchain)
        except (NotUnderstood, OSError, subprocess.SubprocessError) as error:
            _LOG.info("the compiler is not known before it is used: %s", error)


async def _publish(build: _Build) -> None:
    try:
        await publish_manifest(build.manifest, build.remote)
    except DistbuildError as error:
        _LOG.info("the build's manifest is not published: %s", error)
