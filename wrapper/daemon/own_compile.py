"""A unit that nobody has: rustc compiles it here, and what it made is kept."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, replace
from functools import partial

from remote_apis.errors import DistbuildError
from wrapper.build_scripts.launcher import install_launchers
from wrapper.compiled import Compiled, outputs_of
from wrapper.daemon.parts import Keyed, Parts
from wrapper.daemon.protocol import Call, Reply
from wrapper.daemon.tally import build_of
from wrapper.first_compiles import needs_no_state
from wrapper.home import RemoteSettings
from wrapper.inputs.unit_records import Learned, record_of
from wrapper.keys.journal import Subject
from wrapper.ladder import Draft, sources_of
from wrapper.macro_watch import learned_watching
from wrapper.recorded import NotKept, Recorded
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere, Unit, learned_by
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.incremental import is_fresh, without_incremental
from wrapper.rustc.outputs import is_last, unit_kind
from wrapper.stats import UnitStat

_LOG = logging.getLogger("distbuild.calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCompile:
    """Compiles the unit of one call; `has_early`: dependents have others' metadata of it."""

    parts: Parts
    keyed: Keyed
    call: Call
    reply: Reply
    has_early: bool

    async def run(self, unit: Unit, draft: Draft | None) -> tuple[Compiled | None, str | None]:
        """Let the shim run rustc, with the same recorded paths that a worker would use.

        Returns what can be kept of it, or why a compile with a key leaves nothing to keep.
        """
        invocation = unit.invocation
        key = draft.action.digest.hash if draft else ""
        known = draft.learned if draft else self.parts.units.last(invocation).learned
        self.parts.units.add(*unit.record(known, key))
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
            was_fresh=was_fresh,
        )
        return compiled, None

    async def seen(self, compiled: Compiled) -> Compiled:
        """The compile with what it was seen to read; cargo goes on before, where no other unit of
        the build can ask for that."""
        if is_last(compiled.unit.invocation):
            self.reply.let_stand()
        note = partial(self._note_seen, compiled)
        # where nothing was watched there is nothing to wait for
        compiled = note() if compiled.accesses is None else await asyncio.to_thread(note)
        await self._name_program(compiled)
        return compiled

    def _note_seen(self, compiled: Compiled) -> Compiled:
        unit, draft = compiled.unit, compiled.draft
        if compiled.accesses is not None:
            seen = learned_watching(compiled.accesses, unit, draft.inputs)
            compiled = replace(compiled, learned=compiled.learned | seen)
        # of what is in the key already the watcher's notes were not looked through
        self._note_learned(unit, draft, compiled.known)
        return compiled

    def submit(self, compiled: Compiled, stat: UnitStat, server: Remote | None) -> None:
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

    def _note_learned(self, unit: Unit, draft: Draft | None, learned: Learned) -> None:
        key = draft.action.digest.hash if draft else ""
        stem, record = unit.record(learned, key, sources_of(unit, draft, learned))
        made = self.parts.units.last(unit.invocation).made  # by a dependent that began early
        self.parts.units.add(stem, replace(record, made=made))

    def _call_here(self, unit: Unit, draft: Draft | None) -> Call:
        """The call, without incremental state where none is needed, or dependents have the metadata
        of a compile from nothing."""
        if not self.has_early and (draft is None or not needs_no_state(unit, draft.inputs)):
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
