"""Keeping what was compiled here: in the local tier, and on a server that takes it.

This happens behind the user's back, after cargo has gone on. A result is kept only when the unit's
inputs are still those that its key names, and everything that the compile is known to have read is
among them.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from remote_apis.digest import Digest
from remote_apis.file_copy import is_unchanged
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, command_of
from wrapper.build_scripts.names import with_places
from wrapper.build_scripts.program_names import named_by_keys, needs_name
from wrapper.build_scripts.reads import CLOCK_STEP_NS
from wrapper.compiled import (
    Compiled,
    check_known_unchanged,
    check_state,
    check_unchanged,
    dep_info_of,
    whose_result,
)
from wrapper.dep_info import rewrite_dep_info, rewrite_messages
from wrapper.inputs.collect import Collector
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.inputs import Inputs, staged_or_refuse
from wrapper.inputs.snapshot import Source
from wrapper.inputs.unit_records import NOTHING, Learned
from wrapper.learned import note_of
from wrapper.local_tier import LocalTier, stamp_made_here
from wrapper.macro_watch import check_reads, check_watched_ways
from wrapper.notes import Notes, publish_note
from wrapper.recorded import NotKept, Recorded, keep_and_share
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere, read_and_not_staged
from wrapper.roots import OUTPUTS, ROOT_DIRECTORY, Roots
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.outputs import may_be_linked
from wrapper.unit_action import action_of
from wrapper.whose import Whose, key_for

_SETTLED_SECONDS = 0.5
_ROOT = f"/{ROOT_DIRECTORY}"
"""Stands for the input root in what is kept, as a worker's would."""


@dataclass(frozen=True, slots=True)
class _Result:
    """What is kept, under which key, and for whom; servers may have it too if it `is_shared`. The
    key has what `known` says beside what every key has, and would be `base` without."""

    action: BuiltAction
    result: re_pb.ActionResult
    blobs: Mapping[Digest, Source]
    whose: Whose
    is_shared: bool
    base: BuiltAction
    known: Learned


class Keeper:
    """Keeps results, one at a time, in the order in which they came about."""

    def __init__(
        self,
        collector: Collector,
        files: FileDigests,
        local: LocalTier,
        *,
        on_kept: Callable[[Digest], None],
    ) -> None:
        self._collector = collector
        self._files = files
        self._local = local
        self._notes = Notes(local)
        self._on_kept = on_kept
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._is_draining = asyncio.Event()

    def submit(
        self,
        compiled: Compiled,
        recorded: Recorded,
        remote: Remote | None,
        instance: str,
        on_shared: Callable[[Digest], None],
    ) -> None:
        """Keep a result when there is time.

        `recorded` is told whether it is; `on_shared` the key, if the server has it.
        """
        self._start(self._keep(compiled, recorded, remote, instance, on_shared))

    def submit_other(self, work: Coroutine[None, None, None]) -> None:
        """Have other work of the kind done, in turn; it raises nothing."""
        self._start(self._in_turn(work))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_turn(self, work: Coroutine[None, None, None]) -> None:
        async with self._turn:
            await work

    async def drain(self, seconds: float) -> None:
        """Wait until everything submitted is kept, at most so long; what is not by then is lost."""
        self._is_draining.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        """Give up what is not kept yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(
        self,
        compiled: Compiled,
        recorded: Recorded,
        remote: Remote | None,
        instance: str,
        on_shared: Callable[[Digest], None],
    ) -> None:
        if compiled.draft.is_edited:
            # whoever edits builds again soon, and should not wait for what is out of date by then
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_draining.wait(), _SETTLED_SECONDS)
        async with self._turn:
            await keep_and_share(
                recorded,
                remote,
                keep=partial(self._keep_here, compiled, instance),
                refusals=(NotKept, CompileHere, NotUnderstood),
                share=partial(_share, roots=compiled.unit.roots, on_shared=on_shared),
            )

    async def _keep_here(self, compiled: Compiled, instance: str) -> _Result:
        """Keep a result on this machine.

        Raises NotKept, CompileHere, NotUnderstood, DistbuildError and OSError.
        """
        check_unchanged(compiled)
        found = await asyncio.to_thread(self._prepare, compiled)
        await self._store(compiled, found.blobs)
        await self._local.keep(instance, found.action.digest, found.result)
        if found.known != NOTHING:
            name, note = note_of(found.base, found.known, compiled.unit.roots)
            await self._notes.keep(name, note, instance)
        self._on_kept(found.action.digest)
        return found

    def name_of_program(self, compiled: Compiled) -> tuple[Digest, Digest] | None:
        """The digest of a build script, and the key that is its name, if it needs one. Blocks.

        Raises NotKept, CompileHere, NotUnderstood and OSError.
        """
        _, dep_info = dep_info_of(compiled)
        unit = compiled.unit
        # of other packages of registries it has no names by itself
        roots = with_places(unit.roots, unit.environment)
        named = named_by_keys(self._collector.closure(unit.invocation), self._files, roots)
        if not needs_name(unit, compiled.draft.inputs, dep_info, named):
            return None
        _, action = self._keys(compiled, dep_info)
        if named:
            action = self._action_with(named, compiled)
        check_unchanged(compiled)
        (path,) = (path for name, (path, _) in compiled.outputs.items() if "." not in name)
        return self._files.digest(path), action.digest

    def _action_with(self, named: Mapping[str, Digest], compiled: Compiled) -> BuiltAction:
        """What a compile would be with these digests of some of its inputs. Raises NotUnderstood
        and OSError."""
        unit, known = compiled.unit, compiled.known
        inputs = self._collector.collect(unit.invocation, unit.roots, unit.environment, known.files)
        others = {staged_or_refuse(unit.roots, path): each for path, each in named.items()}
        files = {path: others.get(path, digest) for path, digest in inputs.files.items()}
        return action_of(unit, replace(inputs, files=files), known)

    def _prepare(self, compiled: Compiled) -> _Result:
        """Raises NotKept, CompileHere, NotUnderstood and OSError."""
        roots, known = compiled.unit.roots, compiled.known
        dep_info_path, dep_info = dep_info_of(compiled)
        check_state(compiled, dep_info, self._collector.assembles_files)
        base, action = self._keys(compiled, dep_info)
        result = re_pb.ActionResult(stdout_raw=f"{_ROOT}\n".encode())
        blobs: dict[Digest, Source] = {}

        def add(name: str, digest: Digest, source: Source, *, executable: bool = False) -> None:
            blobs[digest] = source
            result.output_files.add(
                path=f"{OUTPUTS}/{name}", digest=digest.to_message(), is_executable=executable
            )

        pairs = [(real, staged) for staged, real in roots.staged_to_real(_ROOT)]
        for name, (path, before) in sorted(compiled.outputs.items()):
            if path == dep_info_path:
                data = rewrite_dep_info(dep_info, pairs)
                add(name, Digest.of(data, self._files.function), data)
            else:
                digest = self._files.digest(path, before)
                add(name, digest, path, executable=bool(before.st_mode & stat.S_IXUSR))
        stderr = rewrite_messages(compiled.stderr, pairs)
        if stderr:
            digest = Digest.of(stderr, self._files.function)
            blobs[digest] = stderr
            result.stderr_digest.CopyFrom(digest.to_message())
        end = time.time_ns()
        started = end - int(compiled.seconds * 1e9)
        stamp_made_here(result, started, end, shares=compiled.shares)
        hands_on = partial(self._collector.hands_on, compiled.unit.invocation)
        whose = whose_result(compiled, dep_info, known, hands_on)
        action = key_for(whose, action, roots)
        return _Result(action, result, blobs, whose, compiled.shares, base, known)

    def _keys(self, compiled: Compiled, dep_info: bytes) -> tuple[BuiltAction, BuiltAction]:
        """The action of what was compiled without what it turned out to read, and with that.

        Raises NotKept, CompileHere, NotUnderstood and OSError.
        """
        unit, draft, known = compiled.unit, compiled.draft, compiled.known
        if compiled.accesses is not None:
            check_reads(compiled.accesses, unit, draft.inputs, known)

        def collect(files: tuple[str, ...], until_ns: int | None) -> Inputs:
            return self._collector.collect(
                unit.invocation, unit.roots, unit.environment, files, looks_again=True,
                until_ns=until_ns,
            )  # fmt: skip

        inputs = collect(draft.learned.files, compiled.started_ns + int(compiled.seconds * 1e9))
        before = action_of(unit, inputs, draft.learned)
        # what was changed and put back since may have been read in between
        is_touched = inputs.changed_ns != draft.inputs.changed_ns
        if is_touched or before.digest != draft.action.digest:
            raise NotKept("its inputs changed while it was compiled")
        check_known_unchanged(compiled)
        if known.files != draft.learned.files:
            # nothing says what lay around them before
            was_changed_ns = max(inputs.changed_ns, compiled.started_ns - CLOCK_STEP_NS)
            inputs = collect(known.files, None)
            if inputs.changed_ns > was_changed_ns:
                raise NotKept("its inputs changed while it was compiled")
        hidden = read_and_not_staged(unit, dep_info, inputs)
        if hidden is not None:
            raise NotKept(f"it reads {hidden}, which is no input")
        if compiled.accesses is not None:
            check_watched_ways(compiled.accesses, unit, inputs)
            # directories leave out something themselves, and what was read before may be left
            if known.directories or known | draft.learned != known:
                check_reads(compiled.accesses, unit, inputs, known)
        if known == NOTHING == draft.learned:
            return before, before
        base = action_of(unit, collect((), None), NOTHING)
        return base, before if known == draft.learned else action_of(unit, inputs, known)

    async def _store(self, compiled: Compiled, blobs: Mapping[Digest, Source]) -> None:
        files = {path: (status, name) for name, (path, status) in compiled.outputs.items()}
        for digest, source in blobs.items():
            if isinstance(source, bytes):
                await self._local.store(digest, source)
                continue
            status, name = files[source]
            await self._local.store_file(
                digest, source, status, links=may_be_linked(compiled.unit.invocation, name)
            )
            # another name is another change time, and dependents ask for its digest
            now = os.stat(source)
            if is_unchanged(now, status):
                self._files.learn(now, digest)
        check_unchanged(compiled)


async def _share(
    kept: _Result, remote: Remote, roots: Roots, on_shared: Callable[[Digest], None]
) -> None:
    """Have a server take what was kept. Raises DistbuildError and OSError."""
    if kept.known != NOTHING:
        await publish_note(*note_of(kept.base, kept.known, roots), remote)
    key, everything = kept.action.digest, {**kept.blobs, **command_of(kept.action)}
    is_published = await remote.publish(key, everything, kept.result)
    if is_published and kept.whose is Whose.EVERYBODYS:
        on_shared(key)
