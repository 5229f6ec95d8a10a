"""Find the result of a build script's run, and keep what a watched run made."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, command_of, of_paths
from wrapper.build_scripts.accesses import Seen
from wrapper.build_scripts.environment import (
    cargos_variables,
    declared,
    reach_of,
    tokens_of,
    users_variables,
)
from wrapper.build_scripts.keys import RECORD, run_action, script_action
from wrapper.build_scripts.names import Names, is_below
from wrapper.build_scripts.outputs import (
    empty_tree,
    is_staged,
    leads_out,
    put_outputs,
    staged,
    stamps,
    take_outputs,
    times,
    unstaged,
)
from wrapper.build_scripts.reads import (
    NotNameable,
    Record,
    Values,
    changed_since,
    dump_records,
    load_records,
    named,
)
from wrapper.fetching import fetch_blobs
from wrapper.inputs.file_digests import FileDigests
from wrapper.inputs.snapshot import Source
from wrapper.inputs.toolchain import machine
from wrapper.ladder import FUNCTION
from wrapper.local_tier import KEPT_HERE, LocalTier, any_contains, named_blobs
from wrapper.remote import Remote
from wrapper.roots import Roots

_LONG = 8
"""A value of so many characters is not in an output by chance."""


_CARGO_LOADS = ("target", "toolchain")
_OF_NO_INTEREST = {"SHELL", "TERM", "LANG", "LC_ALL", "LC_CTYPE"}
"""Variables whose values stand in many a file by chance."""


class NotKept(Exception):
    """The run's result must not be kept; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as cargo asked for it: the script's program, its places and its environment."""

    program: str
    roots: Roots
    environment: Mapping[str, str]

    @property
    def out_dir(self) -> str:
        """OUT_DIR."""
        return self.environment["OUT_DIR"]

    @property
    def names(self) -> Names:
        """Names of paths in this run."""
        return Names(self.roots, self.environment.get("PATH", ""))


@dataclass(frozen=True, slots=True)
class FoundRun:
    """`outcome` is `hit-local` or `hit-remote`."""

    outcome: str
    key: Digest
    result: re_pb.ActionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A run that has ended here with success, and what OUT_DIR held then (`outputs.stamps`).
    `started`: seconds since the epoch."""

    run: Run
    seen: Seen
    made: Mapping[str, tuple[int, int, int]]
    stdout: bytes
    stderr: bytes
    started: float
    seconds: float


class BuildScriptRuns:
    """Results of runs, in the local tier and on servers. One a daemon."""

    def __init__(self, files: FileDigests, local: LocalTier) -> None:
        self._files = files
        self._local = local
        self._values = Values(files)

    def script(self, run: Run) -> BuiltAction:
        """The key of all runs of the script with cargo's variables. Raises OSError."""
        program = self._files.digest(run.program)
        return script_action(program, cargos_variables(run.environment), run.roots, machine())

    async def find(
        self, run: Run, script: BuiltAction, remote: Remote | None, instance: str
    ) -> FoundRun | None:
        """The result, whose blobs are here; or None.

        Raises DistbuildError, NotNameable and OSError.
        """
        tried = set()
        async for outcome, record in self._records(script, remote, instance):
            try:
                # a toolchain's files may have to be hashed
                shared = await asyncio.to_thread(self._key, run, script, record)
            except NotNameable:
                continue  # what it names is here nothing that a run could have read
            for action in (shared, _of_paths(shared, run.roots)):
                if action.digest in tried:
                    continue
                result = await self._local.lookup(instance, action.digest)
                if result is not None:
                    return FoundRun("hit-local", action.digest, result)
                if remote is None or action is not shared or outcome == "hit-local":
                    continue
                tried.add(action.digest)
                result = await remote.lookup(action.digest)
                if result is not None and result.exit_code == 0:
                    await fetch_blobs(self._local, remote, named_blobs(result, FUNCTION))
                    await self._local.keep(instance, action.digest, result)
                    return FoundRun("hit-remote", action.digest, result)
        return None

    async def _records(
        self, script: BuiltAction, remote: Remote | None, instance: str
    ) -> AsyncIterator[tuple[str, Record]]:
        here = await self._records_in(await self._local.lookup(instance, script.digest))
        for record in here:
            yield "hit-local", record
        if remote is not None:
            there = await self._records_there(script, remote)
            for record in dict.fromkeys([*there, *here]):
                yield "hit-remote", record

    async def _records_there(self, script: BuiltAction, remote: Remote) -> list[Record]:
        result = await remote.lookup(script.digest)
        if result is None or result.exit_code != 0:
            return []
        await fetch_blobs(self._local, remote, named_blobs(result, FUNCTION))
        return await self._records_in(result)

    async def _records_in(self, result: re_pb.ActionResult | None) -> list[Record]:
        if result is None:
            return []
        digests = [Digest.from_message(f.digest, FUNCTION) for f in result.output_files]
        return [r for digest in digests for r in load_records(await self._local.read(digest))]

    def _key(self, run: Run, script: BuiltAction, record: Record) -> BuiltAction:
        lines = self._values.of(record.paths, run.names)
        return run_action(script, lines, _variables(run, record), run.roots)

    async def place(self, run: Run, result: re_pb.ActionResult) -> tuple[bytes, bytes]:
        """Fill OUT_DIR; what the run said on stdout and stderr. Raises DistbuildError, OSError."""
        sources = {
            file.path: await self._local.path(Digest.from_message(file.digest, FUNCTION))
            for file in result.output_files
        }
        placed = await asyncio.to_thread(put_outputs, run.out_dir, result, sources, run.roots)
        for file in result.output_files:
            if is_staged(file):
                continue
            stat = placed[file.path.partition("/")[2]]
            self._files.learn(stat, Digest.from_message(file.digest, FUNCTION), is_ours=True)
        return (
            unstaged(await self._said(result.stdout_raw, result.stdout_digest), run.roots),
            unstaged(await self._said(result.stderr_raw, result.stderr_digest), run.roots),
        )

    async def _said(self, raw: bytes, digest: re_pb.Digest) -> bytes:
        if raw or not digest.hash:
            return raw
        return await self._local.read(Digest.from_message(digest, FUNCTION))

    async def keep(
        self, watched: Watched, script: BuiltAction, remote: Remote | None, instance: str
    ) -> Digest | None:
        """Keep a run's record and result, here and on a server that takes it; the key if it does.

        Raises NotKept, NotNameable, NotStorable, DistbuildError and OSError.
        """
        record = await asyncio.to_thread(self._record_of, watched)
        action = await asyncio.to_thread(self._key_then, watched, script, record)
        result, blobs = await asyncio.to_thread(self._result_of, watched, record)
        is_shared = not self._holds_paths(watched.run, result, blobs)
        if not is_shared:
            action = _of_paths(action, watched.run.roots)
        for digest, source in blobs.items():
            if isinstance(source, bytes):
                await self._local.store(digest, source)
            else:
                await self._local.store_file(digest, source)
        # cargo may have gone on, and somebody may have cleaned meanwhile
        if await asyncio.to_thread(stamps, watched.run.out_dir) != watched.made:
            raise NotKept("what it made was changed meanwhile")
        known = await self._records_in(await self._local.lookup(instance, script.digest))
        is_published = remote is not None and is_shared and not remote.is_down
        if remote is not None and is_published:
            known = [*await self._records_there(script, remote), *known]
        data = dump_records([record, *known])
        own = Digest.of(data, FUNCTION)
        about = re_pb.ActionResult()
        about.output_files.add(path=RECORD, digest=own.to_message())
        await self._local.store(own, data)
        await self._local.keep(instance, action.digest, result)
        await self._local.keep(instance, script.digest, about)
        if remote is None or not is_published:
            return None
        await remote.publish(action.digest, {**blobs, **command_of(action)}, result)
        is_there = await remote.publish(script.digest, {own: data, **command_of(script)}, about)
        return action.digest if is_there else None

    def _key_then(self, watched: Watched, script: BuiltAction, record: Record) -> BuiltAction:
        """The key of the run as it was then. Blocks. Raises NotKept, NotNameable and OSError."""
        self._values.forget()
        action = self._key(watched.run, script, record)
        started, target = int(watched.started * 1e9), watched.run.roots.target
        changed = changed_since(watched.seen, started, target)
        if changed is not None:
            raise NotKept(f"{changed} was changed while it ran")
        return action

    def _record_of(self, watched: Watched) -> Record:
        """Blocks. Raises NotKept, NotNameable and OSError."""
        run, seen = watched.run, watched.seen
        if seen.trouble is not None:
            raise NotKept(seen.trouble)
        with open(run.program, "rb") as file:
            tokens = tokens_of(file.read())
        return Record(
            paths=named(seen, run.names),
            variables=frozenset(declared(watched.stdout)),
            tokens=tokens,
            reach=reach_of(path for path in seen.programs if os.path.exists(path)),
        )

    def _result_of(
        self, watched: Watched, record: Record
    ) -> tuple[re_pb.ActionResult, dict[Digest, Source]]:
        """Blocks. Raises NotKept, NotStorable and OSError."""
        run = watched.run
        result, blobs, stats = take_outputs(run.out_dir, self._files, run.roots)
        counted = _variables(run, record)
        said = (watched.stdout, watched.stderr)
        needles = [*times(watched.started), *_unnamed_values(run, counted)]
        is_said = any(needle in each for needle in needles for each in said)
        if is_said or any_contains(stats, needles):
            raise NotKept("what it makes holds a date, this machine's name or a variable's value")
        for data, target in ((said[0], result.stdout_digest), (said[1], result.stderr_digest)):
            if data:
                text = staged(data, run.roots)
                blobs[Digest.of(text, FUNCTION)] = text
                target.CopyFrom(Digest.of(text, FUNCTION).to_message())
        tree = empty_tree(result)
        if tree is not None:
            blobs[Digest.of(tree, FUNCTION)] = tree
        metadata = result.execution_metadata
        metadata.worker = KEPT_HERE
        metadata.execution_start_timestamp.FromNanoseconds(int(watched.started * 1e9))
        end = watched.started + watched.seconds
        metadata.execution_completed_timestamp.FromNanoseconds(int(end * 1e9))
        return result, blobs

    def _holds_paths(
        self, run: Run, result: re_pb.ActionResult, blobs: Mapping[Digest, Source]
    ) -> bool:
        """Whether the result is right for these places alone."""
        real = [place.real for place in run.roots.places]
        paths = {*real, *map(os.path.realpath, real)}
        if any(leads_out(link) for link in result.output_symlinks):
            return True
        return any(_holds(source, paths) for source in blobs.values())


def _holds(source: Source, paths: Iterable[str]) -> bool:
    """Whether a blob holds any of the paths."""
    if isinstance(source, bytes):
        return any(holds_path(source, path) for path in paths)
    with open(source, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return any(holds_path(data, path) for path in paths)


def holds_path(data: bytes | mmap.mmap, path: str) -> bool:
    """Whether data holds a path; one like `/root` only where it ends there, being a word too."""
    needle = os.fsencode(path)
    if data.find(needle) < 0:
        return False
    return path.count("/") > 1 or bool(re.search(re.escape(needle) + rb"(?![\w.-])", data))


def _of_paths(action: BuiltAction, roots: Roots) -> BuiltAction:
    """The action for these places alone, and for where they are when they lie behind links."""
    real = tuple(replace(place, real=os.path.realpath(place.real)) for place in roots.places)
    return of_paths(action, replace(roots, places=(*roots.places, *real)))


def _variables(run: Run, record: Record) -> dict[str, str]:
    """The user's variables that runs with this record depend on."""
    found = users_variables(
        run.environment, tokens=record.tokens, named=record.variables, reach=record.reach
    )
    if record.reach != "none":
        # cargo puts its own directories before the user's
        places = [place.real for place in run.roots.places if place.staged in _CARGO_LOADS]
        searched = run.environment.get("LD_LIBRARY_PATH", "").split(":")
        own = [each for each in searched if each and not is_below(each, places)]
        found |= {"LD_LIBRARY_PATH": ":".join(own)} if own else {}
    return found


def _unnamed_values(run: Run, counted: Mapping[str, str]) -> list[bytes]:
    """Values that no key names, and that what a run makes must therefore not hold.

    Paths of the run's places, and of what lies above, are looked for otherwise.
    """
    known = cargos_variables(run.environment).keys() | counted.keys() | _OF_NO_INTEREST
    values = {v for name, v in run.environment.items() if name not in known}
    values |= {socket.gethostname(), os.uname().release}
    return [
        os.fsencode(value)
        for value in values
        if len(value) >= _LONG and not any(p.real.startswith(value) for p in run.roots.places)
    ]
