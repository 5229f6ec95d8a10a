"""Compiles on this machine: as cargo asked, or where they can be trusted to have read their inputs
alone.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from wrapper.asked import is_told
from wrapper.ccache import behind_ccache
from wrapper.daemon.protocol import Call, LocalRun, Reply
from wrapper.home import Home
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.unit_records import record_of
from wrapper.ladder import Draft
from wrapper.result_checks import Unit
from wrapper.sandbox import find_sandbox, sandboxed

_LOG = logging.getLogger("distbuild.here")
_WORDS = 2000
WATCHED = "DISTBUILD_WATCHED"
"""Names, to all that a watched build script starts, its run."""

_NOT_READ = re.compile(rb"couldn't read `?/distbuild/")

METADATA = b'"emit":"metadata"'
"""In rustc's message that the metadata is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a compile ended, and why its result must not be kept, if it must not; `accesses` are
    those of a watched one, which are still to be looked at."""

    run: LocalRun
    why_not_kept: str | None = None
    accesses: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Rustc:
    """A command, and what is replaced in what it says."""

    argv: list[str]
    replacements: list[tuple[str, str]]


class LocalCompiles:
    """Starts them, through the shim. One a daemon."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._numbers = itertools.count()
        self._failing: set[str] = set()
        self._watches: bool | None = None
        self._tells = True
        self._count = os.cpu_count() or 1
        self._cores = asyncio.Semaphore(self._count)
        self._running = 0

    def has_idle_core(self) -> bool:
        """Whether this machine could compile one more at once."""
        return self._running < self._count

    async def compile(self, call: Call, reply: Reply, unit: Unit, draft: Draft | None) -> Ended:
        """Compile a unit, when there is a core for it.

        What runs others' code, macros or a linker, is watched, and so is what is not a registry's:
        assembly may include any file, and clippy asks cargo of the workspace. Where nothing can be
        watched it is compiled in a sandbox.
        """
        async with self.core(call):
            ended = await self._compile(call, reply, unit, draft)
        if ended.run.status != 0:
            why = "it does not compile"
            return Ended(run=ended.run, why_not_kept=why)
        return ended

    @asynccontextmanager
    async def core(self, call: Call) -> AsyncIterator[None]:
        """Work of this machine's: at most as much at a time as there are cores.

        cargo's own number of jobs sees to that, unless we have raised it.
        """
        self._running += 1
        try:
            async with self._cores if is_raised(call) else nullcontext():
                yield
        finally:
            self._running -= 1

    async def _compile(self, call: Call, reply: Reply, unit: Unit, draft: Draft | None) -> Ended:
        rustc = _Rustc(list(call.argv), [])
        if not unit.keeps_paths:
            remapped = [*call.argv, *unit.roots.remap_options(staged=False)]
            rustc = _Rustc(remapped, unit.roots.recorded_to_real())
        rustc.argv.extend(_past_ccache(unit, draft))
        if draft is None or not (_runs_others_code(unit, draft) or _is_members(unit)):
            return await self._plain(call, reply, rustc)
        if await self._can_watch():
            return await self._watched(call, reply, rustc, unit, draft)
        return await self._confined(call, reply, rustc, unit, draft)

    async def _plain(
        self, call: Call, reply: Reply, rustc: _Rustc, why_not_kept: str | None = None
    ) -> Ended:
        """As cargo asked, but for recorded paths."""
        done = await reply.run(rustc.argv, rustc.replacements, on_trial=True)
        if _looks_by_name(done):
            return await _with_own_paths(call, reply)
        if done.status != 0:
            reply.let_stand()
        return Ended(run=done, why_not_kept=why_not_kept)

    async def _can_watch(self) -> bool:
        """Whether there is a watcher, and this machine lets it watch."""
        if self._watches is None and self._home.launcher.exists():
            program = str(self._home.launcher)
            started = await asyncio.create_subprocess_exec(program, "--can-watch")
            self._watches = await started.wait() == 0
        return self._watches is True

    async def _watched(
        self, call: Call, reply: Reply, rustc: _Rustc, unit: Unit, draft: Draft
    ) -> Ended:
        """The same under watch."""
        file = self._home.path / f"watched-{next(self._numbers)}"
        option = "--watch" if _must_be_seen(unit, draft) else "--watch-most"
        asks = draft.inputs.has_macros and self._tells
        asked = ["--asked", str(self._home.asked_variables)] if asks else []
        command = [str(self._home.launcher), option, str(file), *asked, *rustc.argv]
        done = await reply.run(command, rustc.replacements, on_trial=True)
        accesses = await asyncio.to_thread(_taken, file)
        self._tells &= not asks or is_told(accesses)
        # without any access it was the watcher that failed; or the library cannot be loaded
        is_disturbed = b"!" in accesses or not accesses or (asks and not self._tells)
        if done.status != 0 and is_disturbed and METADATA not in done.stderr:
            why = "it does not compile when it is watched"
            return await self._plain(call, reply, rustc, why)
        if _looks_by_name(done):
            return await _with_own_paths(call, reply)
        if done.status != 0:
            reply.let_stand()
        # it stands when the caller has noted its outputs
        return Ended(run=done, accesses=accesses)

    async def _confined(
        self, call: Call, reply: Reply, rustc: _Rustc, unit: Unit, draft: Draft
    ) -> Ended:
        """In a sandbox; when it fails there, as cargo asked, and so until it has compiled: whoever
        looks at compile errors must not wait for them twice each time.
        """
        why = "others' code runs in it, and this machine can neither watch nor confine it"
        program = None
        if _must_be_seen(unit, draft):
            why = "what it reads has to be watched, and this machine watches nothing"
        else:
            program = await asyncio.to_thread(find_sandbox)
        stem, _ = record_of(unit.invocation)
        if program is not None:
            why = "it does not compile where it sees its inputs alone"
        if program is not None and not draft.has_failed and stem not in self._failing:
            command = sandboxed(
                program, rustc.argv, invocation=unit.invocation, roots=unit.roots,
                inputs=draft.inputs, environment=unit.environment,
            )  # fmt: skip
            tried = await reply.run(command, rustc.replacements, on_trial=True)
            if tried.status == 0:
                return Ended(run=tried)
            if METADATA in tried.stderr:
                reply.let_stand()
                return Ended(run=tried)
            said = tried.stderr[-_WORDS:].decode(errors="replace")
            _LOG.info("%s fails in the sandbox: %s", unit.invocation.crate_name, said)
        ended = await self._plain(call, reply, rustc, why)
        (self._failing.discard if ended.run.status == 0 else self._failing.add)(stem)
        return ended


def _looks_by_name(done: LocalRun) -> bool:
    """Whether a compile failed for the names that artifacts give to files elsewhere: by `file!()`
    it looked for what lies beside its source."""
    is_whole = done.status != 0 and METADATA not in done.stderr
    return is_whole and _NOT_READ.search(done.stderr) is not None


async def _with_own_paths(call: Call, reply: Reply) -> Ended:
    why = "it looks for files by its sources' names"
    return Ended(run=await reply.run(list(call.argv), []), why_not_kept=why)


def _taken(file: Path) -> bytes:
    """What is in a file, which is then removed; nothing where there is none."""
    try:
        data = file.read_bytes()
        file.unlink()
    except FileNotFoundError:
        return b""
    return data


def is_raised(call: Call) -> bool:
    """Whether cargo has more jobs than this machine has cores, for the workers' sake.

    Not within a build script, whose own place it has and waits for.
    """
    return "DISTBUILD_RAISED" in call.environment and WATCHED not in call.environment


def _past_ccache(unit: Unit, draft: Draft | None) -> list[str]:
    """The option by which rustc starts the C compiler to link, and not ccache, which hands links on
    but for what it reads and notes by itself."""
    invocation = unit.invocation
    if draft is None or not (invocation.links and draft.inputs.is_for_host):
        return []
    name = invocation.codegen("linker") or "cc"
    found = None if os.path.dirname(name) else behind_ccache(name, unit.environment)
    return [] if found is None else [f"-Clinker={found}"]


def _runs_others_code(unit: Unit, draft: Draft) -> bool:
    return draft.inputs.has_macros or unit.invocation.links


def _must_be_seen(unit: Unit, draft: Draft) -> bool:
    """Whether others' code in it may do anything at all, by what its text says."""
    return draft.inputs.macros.suspect is not None or unit.invocation.is_clippy


def _is_members(unit: Unit) -> bool:
    """Whether the package is the user's own, and no registry's."""
    return not is_published(unit.roots.package)
