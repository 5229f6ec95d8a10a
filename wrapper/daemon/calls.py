"""One rustc call from arrival to answer."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from wrapper.build_scripts.launcher import install_launchers
from wrapper.build_scripts.runs import BuildScriptRuns
from wrapper.daemon.lines import BuildLines
from wrapper.daemon.protocol import Call, Reply
from wrapper.daemon.remotes import Remotes
from wrapper.daemon.tally import Tally, build_of
from wrapper.dep_info import rewrite_messages
from wrapper.here import LocalCompiles
from wrapper.home import Home, RemoteSettings
from wrapper.inputs.collect import Collector
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.unit_records import UnitRecords, record_of
from wrapper.keeping import Compiled, Keeper, outputs_of
from wrapper.keys.journal import Ended, KeyJournal
from wrapper.ladder import FUNCTION, Draft, Ladder, Result, check
from wrapper.local_tier import LocalTier
from wrapper.materialise import place_outputs
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere, Unit, environment_beside, files_outside
from wrapper.roots import OUTPUTS, OutsideRoots
from wrapper.rustc.arguments import Invocation, NotUnderstood, Probe, parse
from wrapper.rustc.incremental import is_fresh
from wrapper.rustc.outputs import dep_info_name, unit_kind
from wrapper.stats import made_in_seconds

WATCHED = "DISTBUILD_WATCHED"
"""Names, to all that a watched build script starts, its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What answering calls needs; one of each a daemon.

    `failing_scripts` are build scripts that cannot be watched, and why; `compiles_within` the
    watched runs in which units were compiled, whose reads nobody saw.
    """

    home: Home
    files: FileDigests
    units: UnitRecords
    collector: Collector
    local: LocalTier
    ladder: Ladder
    here: LocalCompiles
    keeper: Keeper
    remotes: Remotes
    journal: KeyJournal
    lines: BuildLines
    script_runs: BuildScriptRuns
    failing_scripts: dict[str, str] = field(default_factory=dict)
    compiles_within: set[str] = field(default_factory=set)


@dataclass(slots=True)
class CallHandler:
    """Answers one call. Nothing that goes wrong here may fail what plain cargo would have done."""

    parts: Parts
    call: Call
    reply: Reply
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.parts.home, self.parts.lines, self.call)

    async def answer(self) -> None:
        """Answer the shim. Raises IncompleteReadError or ConnectionError when it is gone."""
        try:
            if "CARGO_CRATE_NAME" not in self.call.environment:
                raise Probe  # a build script tries the compiler: no unit of cargo's
            invocation = parse(self.call.argv)
            if WATCHED in self.call.environment:
                self.parts.compiles_within.add(self.call.environment[WATCHED])
        except Probe:
            self.reply.exec_rustc()
            return
        except NotUnderstood as reason:
            self._count(None, "local", reason=str(reason))
            self.reply.exec_rustc()
            return
        try:
            await self._compile(invocation)
        except OutsideRoots as reason:
            self._count(invocation, "local", reason=str(reason))
            self.reply.exec_rustc()

    async def _compile(self, invocation: Invocation) -> None:
        environment = self.call.environment
        try:
            roots = self.parts.collector.roots(invocation, self.call.cwd, environment)
        except NotUnderstood as error:
            raise OutsideRoots(str(error)) from error
        unit = Unit(invocation=invocation, roots=roots, environment=environment)
        settings = RemoteSettings.of(self.call.settings)
        remote: Remote | str | None = None
        try:
            check(unit)
            remote = await self.parts.remotes.get(settings, self.call, self.reply.tell_user)
            found = await self.parts.ladder.resolve(unit, remote, settings.instance)
            if isinstance(found, Result):
                await self._deliver(unit, found)
                return
            reason, draft = found.reason, found.draft
        except (CompileHere, NotUnderstood) as error:
            reason, draft = str(error), None
        except DistbuildError as error:
            reason, draft = f"the result could not be used: {error}", None
        except OSError as error:
            why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            reason, draft = f"the result could not be used: {why}", None
        self.parts.remotes.warn_if_down(settings, self.call, self.reply.tell_user)
        compiled = await self._run_here(unit, reason, draft)
        if compiled is not None:
            server = remote if isinstance(remote, Remote) else None
            self.parts.keeper.submit(compiled, server, settings.instance)

    async def _deliver(self, unit: Unit, result: Result) -> None:
        files: dict[str, tuple[Path | bytes, bool]] = {}
        digests = {}
        for file in result.action_result.output_files:
            name = file.path.removeprefix(f"{OUTPUTS}/")
            if name != dep_info_name(unit.invocation):
                digest = digests[name] = Digest.from_message(file.digest, FUNCTION)
                files[name] = (await self.parts.local.path(digest), file.is_executable)
        placed = await asyncio.to_thread(
            place_outputs,
            out_dir=unit.roots.out_dir,
            files=files,
            dep_info=(dep_info_name(unit.invocation), result.dep_info),
        )
        for name, digest in digests.items():
            self.parts.files.learn(placed[name], digest, is_ours=True)
        for name, path in install_launchers(self.parts.home, unit).items():
            self.parts.files.learn(os.stat(path), digests[name], is_ours=True)
        known = self.parts.units.last(unit.invocation)
        self.parts.units.add(
            *record_of(unit.invocation, result.learned, known.files, result.key, unit.roots.package)
        )
        made_in = made_in_seconds(result.action_result)
        self._count(unit.invocation, result.outcome, worker=result.worker, made_in=made_in)
        roots = unit.roots
        pairs = [*roots.staged_to_real(result.root), *roots.recorded_to_real()]
        messages = rewrite_messages(result.stderr, pairs)
        self.reply.finish(stdout=result.stdout, stderr=messages, exit_code=0)

    async def _run_here(self, unit: Unit, reason: str, draft: Draft | None) -> Compiled | None:
        """Let the shim run rustc, with the same recorded paths that a worker would use.

        Returns what can be kept of it.
        """
        if self.reply.is_ended:
            return None
        invocation = unit.invocation
        key = draft.action.digest.hash if draft else ""
        known = self.parts.units.last(invocation)
        self.parts.units.add(
            *record_of(invocation, known.environment, known.files, key, unit.roots.package)
        )
        started_ns, started = time.time_ns(), time.monotonic()
        was_fresh = is_fresh(invocation)
        done, is_sound = await self.parts.here.compile(self.call, self.reply, unit, draft)
        compiled = None
        if done.status == 0:
            moved = install_launchers(self.parts.home, unit)
            learned = await asyncio.to_thread(self._learn, unit)
            self.parts.units.add(*record_of(invocation, *learned, key, unit.roots.package))
            if draft is not None and is_sound:
                compiled = Compiled(
                    unit=unit,
                    draft=draft,
                    outputs=outputs_of(unit, moved),
                    stderr=done.stderr,
                    started_ns=started_ns,
                    seconds=time.monotonic() - started,
                    shares=was_fresh,
                )
        self._count(invocation, "local", reason=reason)
        return compiled

    def _learn(self, unit: Unit) -> tuple[set[str], list[str]]:
        """What the compile that has just ended here read, for the next one's key."""
        path = os.path.join(unit.roots.out_dir, dep_info_name(unit.invocation))
        try:
            with open(path, "rb") as file:
                dep_info = file.read()
        except FileNotFoundError:
            return set(), []
        return environment_beside(unit, dep_info), files_outside(unit, dep_info)

    def _count(
        self,
        invocation: Invocation | None,
        outcome: str,
        *,
        worker: str | None = None,
        reason: str | None = None,
        made_in: float | None = None,
    ) -> None:
        kind = unit_kind(invocation) if invocation else "other"
        unit = self.tally.unit(kind, outcome, worker=worker, reason=reason, made_in=made_in)
        crate = self.call.environment["CARGO_CRATE_NAME"]
        self.parts.journal.ended(invocation, Ended.of(unit, crate, build_of(self.call)))
