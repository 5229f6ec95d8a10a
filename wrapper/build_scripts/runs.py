"""Find the result of a build script's run, and keep what a watched run made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, command_of
from wrapper.build_scripts.environment import cargos_variables
from wrapper.build_scripts.kept import check_worth, key_then, record_of, result_of, whose_run
from wrapper.build_scripts.keys import script_action
from wrapper.build_scripts.names import home_within
from wrapper.build_scripts.outputs import empty_tree, stamps, unstaged
from wrapper.build_scripts.placing import SMALL, put_outputs
from wrapper.build_scripts.program_names import ProgramNames
from wrapper.build_scripts.reads import NotNameable, Record, Values, dump_records, load_records
from wrapper.build_scripts.run import Run, Watched, key_of
from wrapper.fetching import fetch_blobs
from wrapper.inputs.build_starts import BuildStarts
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import Source
from wrapper.inputs.toolchain import machine
from wrapper.local_tier import LocalTier, named_blobs
from wrapper.notes import Notes, publish_note
from wrapper.offering import Note, Offer
from wrapper.recorded import NotKept
from wrapper.remote import Remote
from wrapper.whose import Whose, key_for, keys


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """`outcome` is `hit-local` or `hit-remote`; `is_of_path`: it is right in these places alone."""

    outcome: str
    action: BuiltAction
    result: re_pb.ActionResult
    is_of_path: bool


@dataclass(frozen=True, slots=True)
class PutBack:
    """What was found, and what the run said."""

    found: FoundRun
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run whose result is on this machine, for whom it is, its own record first."""

    action: BuiltAction
    result: re_pb.ActionResult
    blobs: Mapping[Digest, Source]
    records: tuple[Record, ...]
    whose: Whose

    @property
    def is_shared(self) -> bool:
        """Whether servers may have it too."""
        return self.whose is Whose.EVERYBODYS


class BuildScriptRuns:
    """Results of runs, in the local tier and on servers. One a daemon."""

    def __init__(self, files: FileDigests, local: LocalTier, builds: BuildStarts) -> None:
        self._files = files
        self._function = files.function
        self._local = local
        self._notes = Notes(local)
        self.names = ProgramNames(self._notes)
        self._values = Values(files, builds)

    async def named(self, run: Run, instance: str) -> Run:
        """The same with its program's name, if that has one. Raises OSError."""
        return replace(run, name=await self.names.of(self._files.digest(run.program), instance))

    def script(self, run: Run) -> BuiltAction:
        """The key of all runs of the script with cargo's variables. Raises OSError."""
        program = run.name or self._files.digest(run.program)
        told = cargos_variables(run.environment) | home_within(run.roots, run.environment)
        return script_action(program, told, run.roots, machine())

    async def wanted(self, run: Run, script: BuiltAction, instance: str) -> BuiltAction:
        """What a run is asked for first: the key by the newest record here, the script's without.

        Raises DistbuildError, NotNameable and OSError.
        """
        for record in _records(await self._notes.here(script, instance)):
            return await asyncio.to_thread(key_of, run, script, record, self._values)
        return script

    async def _find(
        self, run: Run, script: BuiltAction, remote: Remote | None, instance: str
    ) -> FoundRun | BuiltAction:
        """The result, whose blobs ought to be here; or the first key under which none was.

        Raises DistbuildError, NotNameable and OSError.
        """
        tried: set[Digest] = set()
        wanted = None
        async for outcome, record in self._all_records(script, remote, instance):
            try:
                # a toolchain's files may have to be hashed
                shared = await asyncio.to_thread(key_of, run, script, record, self._values)
            except NotNameable:
                continue  # what it names is here nothing that a run could have read
            wanted = wanted or shared
            for action in keys(shared, run.roots):
                if action.digest in tried:
                    continue
                result = await self._local.known(instance, action.digest)
                if result is not None:
                    await self._remember(script, record, instance)
                    is_of_path = action is not shared
                    return FoundRun(
                        outcome="hit-local", action=action, result=result, is_of_path=is_of_path
                    )
                if remote is None or action is not shared or outcome == "hit-local":
                    continue
                tried.add(action.digest)
                result = await remote.lookup(action.digest)
                if result is not None and result.exit_code == 0:
                    await fetch_blobs(self._local, remote, named_blobs(result, self._function))
                    await self._local.keep(instance, action.digest, result)
                    await self._remember(script, record, instance)
                    return FoundRun(
                        outcome="hit-remote", action=action, result=result, is_of_path=False
                    )
        return wanted or script

    async def _remember(self, script: BuiltAction, record: Record, instance: str) -> None:
        """Have a record of a server's here, too: the server may be away next time."""
        here = _records(await self._notes.here(script, instance))
        if record not in here:
            await self._notes.keep(script, dump_records([record, *here]), instance)

    async def _all_records(
        self, script: BuiltAction, remote: Remote | None, instance: str
    ) -> AsyncIterator[tuple[str, Record]]:
        here = _records(await self._notes.here(script, instance))
        for record in here:
            yield "hit-local", record
        if remote is not None:
            there = _records(await self._notes.there(script, remote))
            for record in dict.fromkeys([*there, *here]):
                yield "hit-remote", record

    async def put_back(
        self, run: Run, script: BuiltAction, remote: Remote | None, instance: str
    ) -> PutBack | BuiltAction:
        """Fill OUT_DIR with the result of a run that is known; the key by which none is.

        Raises DistbuildError, NotNameable and OSError; OUT_DIR is then as it was.
        """
        found = await self._find(run, script, remote, instance)
        try:
            return await self._place(run, found) if isinstance(found, FoundRun) else found
        except BlobNotFound as error:
            # damaged: this look at it takes it out of the store, and a server may have it
            await self._local.missing([error.digest])
        found = await self._find(run, script, remote, instance)
        return await self._place(run, found) if isinstance(found, FoundRun) else found

    async def _place(self, run: Run, found: FoundRun) -> PutBack:
        result = found.result
        for file in result.output_files:
            if file.digest.size_bytes > SMALL:
                await self._local.path(Digest.from_message(file.digest, self._function))
        said, function = self._local.said, self._function
        out = await said(result.stdout_raw, result.stdout_digest, function)
        err = await said(result.stderr_raw, result.stderr_digest, function)
        where = self._local.where
        placed = await asyncio.to_thread(
            put_outputs, run.out_dir, result, self._function, where, run.roots, run.umask
        )
        for stat, digest in placed:
            self._files.learn(stat, digest)
        return PutBack(found, unstaged(out, run.roots), unstaged(err, run.roots))

    async def keep(self, watched: Watched, script: BuiltAction, instance: str) -> KeptRun:
        """Keep a run's record and result on this machine.

        Raises NotKept, NotNameable, NotStorable, DistbuildError and OSError.
        """
        check_worth(watched)
        record = await asyncio.to_thread(record_of, watched)
        action = await asyncio.to_thread(key_then, watched, script, record, self._values)
        result, blobs = await asyncio.to_thread(result_of, watched, record, self._files)
        whose = await asyncio.to_thread(whose_run, watched, result, blobs)
        action = key_for(whose, action, watched.run.roots)
        await self._local.store_all(blobs)
        # cargo may have gone on, and somebody may have cleaned meanwhile
        if await asyncio.to_thread(stamps, watched.run.out_dir) != watched.made:
            raise NotKept("what it made was changed meanwhile")
        known = []
        with suppress(NotNameable):
            known = _records(await self._notes.here(script, instance))
        await self._local.keep(instance, action.digest, result)
        await self._notes.keep(script, dump_records([record, *known]), instance)
        return KeptRun(action, result, blobs, (record, *known), whose)

    def offer(self, script: BuiltAction, found: FoundRun, remote: Remote, instance: str) -> Offer:
        """What a server needs, that it may lack, to have a run's result."""

        async def notes() -> list[Note]:
            with suppress(NotNameable):
                here = _records(await self._notes.here(script, instance))
                there = _records(await self._notes.there(script, remote))
                return [(script, dump_records([*here, *there]))]
            return []

        more = empty_tree(found.result)
        return Offer(action=found.action, result=found.result, notes=notes, more=more)

    async def share(self, kept: KeptRun, script: BuiltAction, remote: Remote) -> bool:
        """Have a server take what was kept; whether it did. Raises DistbuildError and OSError."""
        there = []
        with suppress(NotNameable):  # then what is there gives way
            there = _records(await self._notes.there(script, remote))
        record, *known = kept.records
        blobs = {**kept.blobs, **command_of(kept.action)}
        await remote.publish(kept.action.digest, blobs, kept.result)
        return await publish_note(script, dump_records([record, *there, *known]), remote)


def _records(note: bytes | None) -> list[Record]:
    """Raises NotNameable."""
    return load_records(note) if note is not None else []
