"""The ladder: a unit's result from the local tier, from the server's cache, from a worker, or from
rustc here. This is the one place where that is decided, and every "here" has a reason.

A unit has two keys. The shared one names the same work in any checkout. The other has this
checkout's paths in it as well, for the few units whose result holds them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import partial

from google.rpc import code_pb2

from remote_apis import link_set
from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, build_action, of_paths, platform_of
from wrapper.dep_info import rewrite_dep_info
from wrapper.fetching import fetch_blobs
from wrapper.inputs.collect import Collector, Inputs
from wrapper.inputs.environment import environment_of_action
from wrapper.inputs.toolchain import machine
from wrapper.keys.journal import KeyJournal, Subject
from wrapper.local_tier import KEPT_HERE, LocalTier, any_contains, named_blobs
from wrapper.qualifiers import check_linker, qualifiers
from wrapper.remote import Remote
from wrapper.result_checks import (
    CompileHere,
    Unit,
    environment_not_carried,
    undefined_variables,
)
from wrapper.roots import OUTPUTS, ROOT_DIRECTORY, Roots
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.incremental import is_fresh
from wrapper.rustc.outputs import dep_info_name, early_names
from wrapper.script import root_of

_MAX_ROUNDS = 6
_LOG = logging.getLogger("distbuild.ladder")

NEW = "new: no cache had it"
KEEPS_PATHS = "new: its paths have to be this checkout's own"
CROWDED = "all workers are busy, and this machine is not"
EDITED = "being edited: the compiler works on from where it was"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A compile that is about to happen here, and the key under which it may be kept.

    `is_edited`: the unit was compiled before in this place, from something else.
    """

    action: BuiltAction
    inputs: Inputs
    learned: frozenset[str]
    is_edited: bool


@dataclass(frozen=True, slots=True)
class Miss:
    """Nobody has it: rustc has to run here, for this reason."""

    reason: str
    draft: Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A result that somebody had or made, not looked at yet; fields as in Result."""

    outcome: str
    worker: str | None
    action: BuiltAction
    action_result: re_pb.ActionResult
    is_of_path: bool

    @property
    def blobs(self) -> list[Digest]:
        return named_blobs(self.action_result, self.action.digest.function)


OnEarlyResult = Callable[["Result"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked for. `remote` is the server, or why it cannot be had, or None without one.

    `on_early` may get a result before the whole one: it has the metadata, and not the rest.
    `has_idle_core`: whether this machine could compile the unit at once.
    """

    unit: Unit
    remote: Remote | str | None
    instance: str
    on_early: OnEarlyResult
    has_idle_core: Callable[[], bool] = bool


class _Keys:
    """The keys of a unit in the order in which they are tried; a hit under the first needs no
    second."""

    def __init__(self, shared: BuiltAction, roots: Roots, *, only_own: bool = False) -> None:
        self._shared = shared
        self._roots = roots
        self._own: BuiltAction | None = None
        self.only_own = only_own

    def __iter__(self) -> Iterator[BuiltAction]:
        if not self.only_own:
            yield self._shared
        if self._own is None:
            self._own = of_paths(self._shared, self._roots)
        yield self._own


class FailedThere(Exception):
    """rustc failed on a worker, with these words on stderr."""

    def __init__(self, message: str, stderr: bytes) -> None:
        super().__init__(message)
        self.stderr = stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A usable result: every blob is in the local tier. `worker` is set when one just made it.

    `files` are its files' digests by their names in the output directory;
    `root` is the input root that rustc's `stderr` speaks of; `dep_info` has this checkout's paths;
    `is_of_path`: it holds for this checkout's paths alone; `learned` names the variables that the
    key holds beside cargo's own; `key` is the shared key.
    """

    outcome: str
    worker: str | None
    action_result: re_pb.ActionResult
    files: Mapping[str, Digest]
    root: str
    stdout: bytes
    stderr: bytes
    dep_info: bytes
    is_of_path: bool
    learned: frozenset[str] = frozenset()
    key: Digest | None = None


class Ladder:
    """Takes units down the ladder. One a daemon; used by one event loop."""

    def __init__(self, collector: Collector, local: LocalTier, journal: KeyJournal) -> None:
        self._collector = collector
        self._local = local
        self._journal = journal
        self._unusable: dict[Digest, str] = {}

    async def resolve(self, ask: Ask) -> Result | Miss:
        """The unit's result.

        Raises CompileHere or NotUnderstood with the reason when the unit has no key.
        """
        unit = ask.unit
        driver = unit.invocation.driver
        if not self._collector.knows_toolchain(driver, unit.environment):
            await asyncio.to_thread(self._hash_toolchain, driver, unit.environment)
        # on the loop: a hop to a thread and back takes as long as what is done here for a hit
        inputs = self._inputs(unit)
        last = self._collector.last_record(unit.invocation)
        learned = set(last.environment)
        for _ in range(_MAX_ROUNDS):
            action = build(unit, inputs, frozenset(learned))
            self._journal.note(Subject.of(unit.invocation), action)
            draft = Draft(
                action=action,
                inputs=inputs,
                learned=frozenset(learned),
                is_edited=_is_edited(unit, last.key, action),
            )
            try:
                found = await self._find(ask, draft)
                if isinstance(found, Miss):
                    return found
                unknown = _not_carried(unit, found, learned)
                if not unknown:
                    return replace(found, learned=frozenset(learned), key=action.digest)
            except FailedThere as failed:
                unknown = undefined_variables(failed.stderr, unit.environment) - learned
                if not unknown:
                    raise CompileHere(str(failed)) from None
            learned |= unknown
        raise CompileHere("reads ever more of the environment")

    def made_anew(self, action: Digest) -> None:
        """There is another result under this key than the one that could not be used."""
        self._unusable.pop(action, None)

    def _hash_toolchain(self, driver: str, environment: Mapping[str, str]) -> None:
        try:
            self._collector.hash_toolchain(driver, environment)
        except OSError as error:
            raise CompileHere(f"cannot read {error.filename}: {error.strerror}") from error

    def _inputs(self, unit: Unit) -> Inputs:
        try:
            return self._collector.collect(unit.invocation, unit.roots, unit.environment)
        except OSError as error:
            raise CompileHere(f"cannot read {error.filename}: {error.strerror}") from error

    async def _find(self, ask: Ask, draft: Draft) -> Result | Miss:
        """A result under either key; the shared one may hold what is right elsewhere only."""
        unit = ask.unit
        shared = draft.action
        reason = KEEPS_PATHS if unit.keeps_paths else self._unusable.get(shared.digest)
        if reason is None:
            try:
                keys = _Keys(shared, unit.roots)
                found = await self._step_down(ask, draft, keys)
                if isinstance(found, Result):
                    _not_carried(unit, found, draft.learned)
                return found
            except CompileHere as error:
                reason = self._unusable[shared.digest] = str(error)
        keys = _Keys(shared, unit.roots, only_own=True)
        found = await self._step_down(ask, draft, keys)
        return Miss(reason, draft) if isinstance(found, Miss) else found

    async def _step_down(self, ask: Ask, draft: Draft, keys: _Keys) -> Result | Miss:
        """Raises CompileHere when what there is cannot be used, FailedThere."""
        unit, remote, instance = ask.unit, ask.remote, ask.instance
        for action in keys:
            known = await self._local.lookup(instance, action.digest)
            if known is not None:
                found = _Found(
                    outcome="hit-local",
                    worker=None,
                    action=action,
                    action_result=known,
                    is_of_path=action is not draft.action,
                )
                return await self._usable(unit, found, found.action.required_names)
        if not isinstance(remote, Remote):
            return Miss(remote or NEW, draft)
        if remote.is_down:
            return Miss(f"the server {remote.url} is left alone: it {remote.trouble}", draft)
        try:
            early = partial(self._early, ask, draft, remote)
            found_there = await _from_server(remote, draft, keys, ask.has_idle_core, early)
            if isinstance(found_there, Miss):
                return found_there
            lacking = await self._local.missing(found_there.blobs)
            if found_there.outcome == "hit-remote" and lacking:
                await early(found_there)
            await fetch_blobs(self._local, remote, lacking)
        except DistbuildError as error:
            remote.note(error)
            return Miss(f"the server {remote.url}: {error}", draft)
        usable = await self._usable(unit, found_there, found_there.action.required_names)
        await self._local.keep(instance, found_there.action.digest, found_there.action_result)
        return usable

    async def _early(self, ask: Ask, draft: Draft, remote: Remote, found: _Found) -> None:
        """Hand out the metadata, if dependents can begin with it, before the rest is here.

        Raises DistbuildError. What is wrong with the result shows when it is whole.
        """
        unit = ask.unit
        names = early_names(unit.invocation)
        part = re_pb.ActionResult()
        part.CopyFrom(found.action_result)
        del part.output_files[:]
        part.output_files.extend(
            file
            for file in found.action_result.output_files
            if file.path.removeprefix(f"{OUTPUTS}/") in names
        )
        if not names or len(part.output_files) != len(names):
            return
        early = replace(found, action_result=part)
        await fetch_blobs(self._local, remote, early.blobs)
        try:
            result = await self._usable(unit, early, names)
            if not _not_carried(unit, result, draft.learned):
                await ask.on_early(replace(result, key=draft.action.digest))
        except CompileHere as reason:
            _LOG.info("%s: no early metadata: %s", unit.invocation.crate_name, reason)

    async def _usable(self, unit: Unit, found: _Found, required: Iterable[str]) -> Result:
        """Check a result before anyone sees it. Raises CompileHere."""
        function = found.action.digest.function
        files = {
            f.path.removeprefix(f"{OUTPUTS}/"): Digest.from_message(f.digest, function)
            for f in found.action_result.output_files
        }
        lacking = sorted(set(required) - files.keys())
        if lacking:
            raise CompileHere(f"the result lacks {lacking[0]}")
        paths = [
            await self._local.path(digest)
            for name, digest in files.items()
            if not name.endswith(".d") and digest.size
        ]
        # what was compiled in place was looked through by whoever kept it, and knows no input root
        is_of_worker = found.action_result.execution_metadata.worker != KEPT_HERE
        if (
            is_of_worker
            and found.outcome != "hit-local"
            and await asyncio.to_thread(any_contains, paths, [ROOT_DIRECTORY.encode()])
        ):
            self._unusable[found.action.digest] = "its output holds the path where it was compiled"
            raise CompileHere(self._unusable[found.action.digest])
        result = found.action_result
        said = await self._local.said(result.stdout_raw, result.stdout_digest, function)
        root, stdout = root_of(said)
        dep_info = await self._local.read(files[dep_info_name(unit.invocation)])
        return Result(
            outcome=found.outcome,
            worker=found.worker,
            action_result=result,
            files=files,
            root=root,
            stdout=stdout,
            stderr=await self._local.said(result.stderr_raw, result.stderr_digest, function),
            dep_info=rewrite_dep_info(dep_info, unit.roots.staged_to_real(root)),
            is_of_path=found.is_of_path,
        )


async def _from_server(
    remote: Remote,
    draft: Draft,
    keys: _Keys,
    has_idle_core: Callable[[], bool],
    on_early: Callable[[_Found], Awaitable[None]],
) -> _Found | Miss:
    """What the server has or makes. Raises DistbuildError, FailedThere, CompileHere."""
    for action in keys:
        known = await remote.lookup(action.digest)
        if known is not None and known.exit_code == 0:
            return _Found(
                outcome="hit-remote",
                worker=None,
                action=action,
                action_result=known,
                is_of_path=action is not draft.action,
            )
    if draft.is_edited:
        return Miss(EDITED, draft)
    is_there = not keys.only_own and draft.action.is_for_workers
    if not is_there or not await remote.executes(draft.action):
        return Miss(NEW, draft)
    if has_idle_core() and await remote.is_crowded():
        return Miss(CROWDED, draft)
    return await _execute(remote, draft.action, on_early)


async def _execute(
    remote: Remote, action: BuiltAction, on_early: Callable[[_Found], Awaitable[None]]
) -> _Found:
    """Have a worker compile it. Raises DistbuildError, FailedThere and CompileHere."""

    async def take_early(result: re_pb.ActionResult) -> None:
        found = _Found(
            outcome="remote", worker=None, action=action, action_result=result, is_of_path=False
        )
        await on_early(found)

    response = await remote.execute(action, take_early)
    worker = response.result.execution_metadata.worker or "a worker"
    if response.status.code != code_pb2.OK:
        raise CompileHere(f"{worker} failed: {response.status.message}")
    if response.result.exit_code != 0:
        stderr = response.result.stderr_raw
        if not stderr and response.result.stderr_digest.hash:
            digest = Digest.from_message(response.result.stderr_digest, action.digest.function)
            stderr = (await remote.read_many([digest]))[digest]
        code = response.result.exit_code
        raise FailedThere(f"did not compile on {worker} (exit code {code})", stderr)
    return _Found(
        outcome="hit-remote" if response.cached_result else "remote",
        worker=None if response.cached_result else worker,
        action=action,
        action_result=response.result,
        is_of_path=False,
    )


def _not_carried(unit: Unit, found: Result, learned: Set[str]) -> set[str]:
    return environment_not_carried(unit, found.dep_info, learned, is_of_path=found.is_of_path)


def _is_edited(unit: Unit, last_key: str, action: BuiltAction) -> bool:
    """Whether rustc's own incremental state will serve the user better than a worker."""
    return last_key not in ("", action.digest.hash) and not is_fresh(unit.invocation)


def build(unit: Unit, inputs: Inputs, learned: frozenset[str]) -> BuiltAction:
    """The unit's action under its shared key. Raises NotUnderstood."""
    if inputs.macros.suspect is not None and not inputs.macros.is_seen:
        raise NotUnderstood(f"a macro may read what no key names: {inputs.macros.suspect}")
    set_digest = None
    if unit.invocation.links_with_system:
        check_linker(unit.invocation.codegen("linker"), unit.environment)
        set_digest = link_set.link_set()
    return build_action(
        invocation=unit.invocation,
        roots=unit.roots,
        environment=environment_of_action(unit.environment, learned | inputs.macros.variables),
        inputs=inputs,
        platform=platform_of(unit.invocation, machine(), set_digest),
        qualifiers=qualifiers(unit.invocation, unit.roots, inputs, unit.environment),
    )


def check(unit: Unit) -> None:
    """Refuse what the ladder cannot take. Raises NotUnderstood."""
    if "dep-info" not in unit.invocation.emit:
        raise NotUnderstood(f"writes no {dep_info_name(unit.invocation)} to check it by")
