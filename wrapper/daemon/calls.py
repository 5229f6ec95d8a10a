"""One rustc call from arrival to answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from wrapper.build_scripts.launcher import install_launchers
from wrapper.build_scripts.names import is_below
from wrapper.compiled import Compiled, outputs_of
from wrapper.daemon.parts import Keyed, Parts
from wrapper.daemon.protocol import Call, Reply
from wrapper.daemon.tally import Tally, build_of
from wrapper.dep_info import rewrite_messages
from wrapper.first_compiles import needs_no_state
from wrapper.found import Result
from wrapper.here import METADATA, WATCHED, is_raised
from wrapper.home import RemoteSettings
from wrapper.inputs.moved_units import made_of
from wrapper.inputs.unit_records import Learned, UnitRecord, record_of
from wrapper.keys.journal import Ended, Subject
from wrapper.ladder import Ask, Draft, check, sources_of
from wrapper.macro_watch import learned_watching
from wrapper.materialise import place_outputs
from wrapper.offering import Offer, offer
from wrapper.recorded import NotKept, Recorded
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere, Unit, learned_by
from wrapper.roots import OUTPUTS, OutsideRoots
from wrapper.rustc.arguments import Invocation, NotUnderstood, Probe, parse
from wrapper.rustc.by_name import path_of_driver
from wrapper.rustc.incremental import is_fresh, without_incremental
from wrapper.rustc.outputs import (
    dep_info_name,
    is_last,
    may_be_linked,
    metadata_name,
    unit_kind,
)
from wrapper.stats import UnitStat, made_in_seconds
from wrapper.wording import not_kept, trouble

_LOG = logging.getLogger("distbuild.calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """Metadata that cargo has already, and what of rustc's messages was said with it."""

    digest: Digest
    said: bytes

    def rest_of(self, stderr: bytes) -> bytes:
        """The messages that were not said yet; cargo must hear of the metadata once."""
        if stderr.startswith(self.said):
            return stderr[len(self.said) :]
        lines = stderr.splitlines(keepends=True)
        return b"".join(line for line in lines if METADATA not in line)


@dataclass(slots=True)
class CallHandler:
    """Answers one call. Nothing that goes wrong here may fail what plain cargo would have done."""

    parts: Parts
    call: Call
    reply: Reply
    tally: Tally = field(init=False)
    keyed: Keyed = field(init=False)
    early: Early | None = None

    def __post_init__(self) -> None:
        self.tally = Tally(self.parts.home, self.parts.lines, self.call)

    async def answer(self) -> None:
        """Answer the shim. Raises IncompleteReadError or ConnectionError when it is gone."""
        try:
            if "CARGO_CRATE_NAME" not in self.call.environment:
                raise Probe  # no unit of cargo's: such calls the shim leaves to rustc unasked
            call = self.call
            driver = path_of_driver(call.argv[0], call.environment, call.cwd)
            self.call = replace(self.call, argv=(driver, *self.call.argv[1:]))
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
        settings = RemoteSettings.of(self.call.settings)
        remote = await self.parts.remotes.get(settings, self.call, self.reply.tell_user)
        self.keyed = self.parts.keyed_for(remote)
        unit = self._unit(invocation)
        try:
            check(unit)
            if isinstance(remote, Remote):
                self.keyed.beginnings.first(self.call, invocation.driver, remote)
            ask = Ask(
                unit=unit, remote=remote, instance=settings.instance,
                on_early=partial(self._deliver_early, unit),
                has_idle_core=self._has_idle_core,
            )  # fmt: skip
            found = await self.keyed.ladder.resolve(ask)
            if isinstance(found, Result):
                await self._deliver(unit, found)
                self._offer(unit, found, remote)
                return
            reason, draft = found.reason, found.draft
        except (CompileHere, NotUnderstood) as error:
            reason, draft = str(error), None
        except DistbuildError as error:
            reason, draft = f"the result could not be used: {error}", None
        except OSError as error:
            reason, draft = f"the result could not be used: {trouble(error)}", None
        self.parts.remotes.warn_if_down(settings, self.call, self.reply.tell_user)
        if self.reply.is_ended:
            return
        compiled, why_not_kept = await self._run_here(unit, draft)
        if why_not_kept is not None:
            reason = not_kept(reason, why_not_kept)
        stat = self._count(invocation, "local", reason=reason)
        if compiled is not None:
            compiled = await self._seen(compiled)
            self._submit(compiled, stat, remote if isinstance(remote, Remote) else None)

    def _unit(self, invocation: Invocation) -> Unit:
        """Raises OutsideRoots."""
        environment = self.call.environment
        try:
            roots = self.keyed.collector.roots(invocation, self.call.cwd, environment)
        except NotUnderstood as error:
            raise OutsideRoots(str(error)) from error
        # cargo by itself with the wrapper has builds too
        named = {"DISTBUILD_BUILD": build_of(self.call)}
        environment = _of_unit(environment, roots.target) | named
        return Unit(invocation=invocation, roots=roots, environment=environment)

    def _offer(self, unit: Unit, found: Result, remote: Remote | str | None) -> None:
        """Have the server get what is here already, when there is time."""
        if isinstance(remote, Remote) and found.outcome == "hit-local":
            notes = partial(self.keyed.ladder.notes, unit, found)
            offered = Offer(action=found.action, result=found.action_result, notes=notes)
            self.keyed.keeper.submit_other(offer(self.parts.local, remote, offered))

    def _submit(self, compiled: Compiled, stat: UnitStat, server: Remote | None) -> None:
        """Have the result of a compile kept that has been counted."""
        build, invocation = build_of(self.call), compiled.unit.invocation
        recorded = Recorded(
            home=self.parts.home, journal=self.parts.journal, build=build, stat=stat,
            subject=Subject.of(invocation), noted=compiled.draft.action.digest,
        )  # fmt: skip
        name = os.path.basename(record_of(invocation)[0])
        note = partial(self.keyed.beginnings.note, build, name)
        instance = RemoteSettings.of(self.call.settings).instance
        self.keyed.keeper.submit(compiled, recorded, server, instance, note)

    def _has_idle_core(self) -> bool:
        """Only where cargo's jobs were raised to the pool: else all that cargo starts is meant for
        the workers, which may be on this machine."""
        return is_raised(self.call) and self.parts.here.has_idle_core()

    async def _deliver_early(self, unit: Unit, result: Result) -> None:
        """Have cargo start the dependents: the metadata is all that they need."""
        head, mark, _ = result.stderr.partition(METADATA)
        if self.early is not None or not mark:
            return
        said = head + mark + result.stderr[len(head + mark) :].partition(b"\n")[0] + b"\n"
        name = metadata_name(unit.invocation)
        await self._place(unit, result, {name})
        self._note_unit(unit, result)
        self.early = Early(digest=result.files[name], said=said)
        self.reply.begin(_for_user(unit, result, said))
        await self.reply.sent()

    async def _deliver(self, unit: Unit, result: Result) -> None:
        digests, stderr = result.files, result.stderr
        wanted = set(digests)
        if self.early is not None:
            stderr = self.early.rest_of(stderr)
            # cargo would find dependents older than what they were made with
            name = metadata_name(unit.invocation)
            if digests.get(name) == self.early.digest:
                wanted.remove(name)
        moved = await self._place(unit, result, wanted)
        for name, path in moved.items():
            self.keyed.files.learn(os.stat(path), digests[name])
        self._note_unit(unit, result)
        made_in = made_in_seconds(result.action_result)
        self._count(unit.invocation, result.outcome, worker=result.worker, made_in=made_in)
        messages = _for_user(unit, result, stderr)
        self.reply.finish(stdout=result.stdout, stderr=messages, exit_code=0)

    async def _place(self, unit: Unit, result: Result, wanted: Set[str]) -> dict[str, str]:
        """Put some of a result's files, and its dep-info, into the target directory.

        Returns the paths of programs that have a launcher in their place.
        """
        dep_info = dep_info_name(unit.invocation)
        digests = result.files
        files: dict[str, tuple[Path | bytes, bool]] = {}
        for file in result.action_result.output_files:
            name = file.path.removeprefix(f"{OUTPUTS}/")
            if name in wanted and name != dep_info:
                files[name] = (await self.parts.local.path(digests[name]), file.is_executable)
        placed = await asyncio.to_thread(
            place_outputs,
            out_dir=unit.roots.out_dir,
            files=files,
            dep_info=(dep_info, result.dep_info),
            linked={name for name in files if may_be_linked(unit.invocation, name)},
            umask=self.call.umask,
        )
        for name in files:
            self.parts.local.linked(digests[name], placed[name])
            self.keyed.files.learn(placed[name], digests[name])
        return install_launchers(self.parts.home, unit)

    def _note_unit(self, unit: Unit, result: Result) -> None:
        key = result.key.hash if result.key else ""
        stem, record = _record(unit, result.learned, key, result.sources)
        # as it was placed: nothing is read
        self.parts.units.add(stem, replace(record, made=made_of(stem, self.keyed.files)))
        if result.key is not None and not result.is_of_path:
            self.keyed.beginnings.note(build_of(self.call), os.path.basename(stem), result.key)

    async def _run_here(
        self, unit: Unit, draft: Draft | None
    ) -> tuple[Compiled | None, str | None]:
        """Let the shim run rustc, with the same recorded paths that a worker would use.

        Returns what can be kept of it, or why a compile with a key leaves nothing to keep.
        """
        invocation = unit.invocation
        key = draft.action.digest.hash if draft else ""
        known = draft.learned if draft else self.parts.units.last(invocation).learned
        self.parts.units.add(*_record(unit, known, key))
        started_ns, started = time.time_ns(), time.monotonic()
        was_fresh = is_fresh(invocation)
        ended = await self.parts.here.compile(self._call_here(unit, draft), self.reply, unit, draft)
        if ended.run.status != 0:
            return None, ended.why_not_kept
        moved = install_launchers(self.parts.home, unit)
        learned = await asyncio.to_thread(learned_by, unit)
        if draft is None or ended.why_not_kept is not None:
            self._note_learned(unit, draft, learned)
            return None, ended.why_not_kept
        compiled = Compiled(
            unit=unit,
            draft=draft,
            outputs=outputs_of(unit, moved),
            learned=learned,
            stderr=ended.run.stderr,
            accesses=ended.accesses,
            started_ns=started_ns,
            seconds=time.monotonic() - started,
            # how old files are is the same nowhere else
            shares=was_fresh and not draft.inputs.macros.asks_ages,
        )
        return compiled, None

    async def _seen(self, compiled: Compiled) -> Compiled:
        """The compile with what it was seen to read; cargo goes on before, where no other unit of
        the build can ask for that."""
        unit, draft = compiled.unit, compiled.draft
        if is_last(unit.invocation):
            self.reply.let_stand()
        if compiled.accesses is not None:
            seen = (compiled.accesses, unit, draft.inputs)
            learned = compiled.learned | await asyncio.to_thread(learned_watching, *seen)
            compiled = replace(compiled, learned=learned)
        self._note_learned(unit, draft, compiled.learned)
        await self._name_program(compiled)
        return compiled

    def _note_learned(self, unit: Unit, draft: Draft | None, learned: Learned) -> None:
        key = draft.action.digest.hash if draft else ""
        stem, record = _record(unit, learned, key, sources_of(unit, draft, learned))
        made = self.parts.units.last(unit.invocation).made  # by a dependent that began early
        self.parts.units.add(stem, replace(record, made=made))

    def _call_here(self, unit: Unit, draft: Draft | None) -> Call:
        """The call, without incremental state where none is needed, or dependents have the metadata
        of a compile from nothing."""
        if self.early is None and (draft is None or not needs_no_state(unit, draft.inputs)):
            return self.call
        return replace(self.call, argv=without_incremental(self.call.argv))

    async def _name_program(self, compiled: Compiled) -> None:
        """Before it runs, as the keys of its runs go by it."""
        if unit_kind(compiled.unit.invocation) != "build-script":
            return
        instance = RemoteSettings.of(self.call.settings).instance
        try:
            found = await asyncio.to_thread(self.keyed.keeper.name_of_program, compiled)
            if found is not None:
                await self.keyed.script_runs.names.note(*found, instance)
        except (NotKept, CompileHere, NotUnderstood, DistbuildError, OSError) as error:
            # nor will it be kept, which says why
            _LOG.info("%s has no name: %s", compiled.unit.invocation.crate_name, error)

    def _count(
        self,
        invocation: Invocation | None,
        outcome: str,
        *,
        worker: str | None = None,
        reason: str | None = None,
        made_in: float | None = None,
    ) -> UnitStat:
        kind = unit_kind(invocation) if invocation else "other"
        unit = self.tally.unit(kind, outcome, worker=worker, reason=reason, made_in=made_in)
        crate = self.call.environment["CARGO_CRATE_NAME"]
        subject = Subject.of(invocation) if invocation else Subject.unknown(crate)
        self.parts.journal.ended(subject, Ended.of(unit, crate, build_of(self.call)))
        return unit


def _record(unit: Unit, learned: Learned, key: str, sources: str = "") -> tuple[str, UnitRecord]:
    roots = unit.roots
    stem, record = record_of(unit.invocation, learned, key, roots.package, roots.outside)
    return stem, replace(record, sources=sources)


def _of_unit(environment: dict[str, str], target: str) -> dict[str, str]:
    """A unit's variables without an OUT_DIR of another's, which cargo hands on where a test runs
    cargo: the package has no build script then."""
    if is_below(environment.get("OUT_DIR", target), (target,)):
        return environment
    return {name: value for name, value in environment.items() if name != "OUT_DIR"}


def _for_user(unit: Unit, result: Result, stderr: bytes) -> bytes:
    """rustc's messages with this checkout's paths."""
    pairs = [*unit.roots.staged_to_real(result.root), *unit.roots.recorded_to_real()]
    return rewrite_messages(stderr, pairs)
