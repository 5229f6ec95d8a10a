"""The ladder: a unit's result from the local tier, from the server's cache, from a worker, or from
rustc here. This is the one place where that is decided, and every "here" has a reason.

A unit's shared key names the same work in any checkout. Two others have the user's paths in them,
or this checkout's as well, for the few units whose result holds them (whose.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError, OutOfSpace
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.build_scripts.names import ABOVE
from wrapper.fetching import fetch_blobs
from wrapper.found import Found, Result, usable
from wrapper.from_server import FailedThere, execute, look_up
from wrapper.inputs.apart import is_apart
from wrapper.inputs.collect import Collector
from wrapper.inputs.inputs import Inputs
from wrapper.inputs.package_sources import is_published
from wrapper.inputs.unit_records import NOTHING, Learned
from wrapper.keys.journal import KeyJournal, Subject
from wrapper.learned import find_learned, note_name, note_of
from wrapper.local_tier import LocalTier
from wrapper.notes import Notes, publish_note
from wrapper.remote import Remote
from wrapper.result_checks import (
    CompileHere,
    Unit,
    check_ways,
    environment_not_carried,
    missed,
)
from wrapper.roots import OUTPUTS, Roots
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.incremental import is_fresh
from wrapper.rustc.outputs import dep_info_name, early_names
from wrapper.unit_action import action_of
from wrapper.whose import keys
from wrapper.wording import trouble

_MAX_ROUNDS = 6
_LOG = logging.getLogger("distbuild.ladder")

NEW = "new: no cache had it"
KEEPS_PATHS = "new: its paths have to be this checkout's own"
CROWDED = "all workers are busy, and this machine is not"
EDITED = "being edited: the compiler works on from where it was"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A compile that is about to happen here, and the key under which it may be kept.

    `learned` is in the key, and `told` what of that compiles from the same sources have read;
    `is_edited`: the unit was compiled before in this place, from something else; `has_failed`: a
    worker could not compile it.
    """

    action: BuiltAction
    inputs: Inputs
    learned: Learned
    is_edited: bool
    told: Learned = NOTHING
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class Miss:
    """Nobody has it: rustc has to run here, for this reason."""

    reason: str
    draft: Draft


OnEarlyResult = Callable[[Result], Awaitable[None]]


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

    @property
    def server(self) -> Remote | None:
        """The server, if there is one that is not left alone now."""
        return self.remote if isinstance(self.remote, Remote) and not self.remote.is_down else None


class _Keys:
    """The keys of a unit in the order in which they are tried; a hit under the first needs no
    others."""

    def __init__(self, shared: BuiltAction, roots: Roots, *, only_own: bool = False) -> None:
        self._made: list[BuiltAction] = []
        self._rest = keys(shared, roots)
        if only_own:
            next(self._rest)

    def __iter__(self) -> Iterator[BuiltAction]:
        yield from self._made
        for action in self._rest:
            self._made.append(action)
            yield action


class Ladder:
    """Takes units down the ladder. One a daemon; used by one event loop."""

    def __init__(self, collector: Collector, local: LocalTier, journal: KeyJournal) -> None:
        self._collector = collector
        self._local = local
        self._journal = journal
        self._notes = Notes(local)
        self._unusable: dict[Digest, str] = {}

    async def resolve(self, ask: Ask) -> Result | Miss:
        """The unit's result.

        Raises CompileHere or NotUnderstood with the reason when the unit has no key.
        """
        unit = ask.unit
        driver = unit.invocation.driver
        if not self._collector.knows_toolchain(driver, unit.environment):
            await asyncio.to_thread(self._hash_toolchain, driver, unit.environment)
        last = self._collector.last_record(unit.invocation)
        learned, told = _of_this_place(last.learned, unit.roots), NOTHING
        for number in range(_MAX_ROUNDS):
            draft, found = await self._known(ask, learned, last.key, asks_others=number == 0)
            learned, told = draft.learned, told | draft.told
            draft = replace(draft, told=told)
            try:
                found = found or await self._made(ask, draft)
                if isinstance(found, Miss):
                    return found
                more = Learned(frozenset(self._not_carried(unit, found, draft)))
            except FailedThere as failed:
                more = missed(failed.stderr, unit)
                if learned | more == learned:
                    return Miss(str(failed), replace(draft, has_failed=True))
            else:
                if more == NOTHING:
                    await self._note(ask, draft, found)
                    return _of_draft(found, unit, draft)
            learned |= more
        return Miss("reads ever more than it is given", replace(draft, has_failed=True))

    async def notes(self, unit: Unit, found: Result) -> list[tuple[BuiltAction, bytes]]:
        """What others have to know to find a result. Raises CompileHere and NotUnderstood."""
        if found.learned == NOTHING:
            return []
        return [note_of(self._base(unit), found.learned, unit.roots)]

    def made_anew(self, action: Digest) -> None:
        """There is another result under this key than the one that could not be used."""
        self._unusable.pop(action, None)

    def _hash_toolchain(self, driver: str, environment: Mapping[str, str]) -> None:
        try:
            self._collector.hash_toolchain(driver, environment)
        except OSError as error:
            raise CompileHere(f"cannot read {error.filename}: {error.strerror}") from error

    def _draft(self, unit: Unit, learned: Learned, last_key: str) -> Draft:
        # on the loop: a hop to a thread and back takes as long as what is done here for a hit
        try:
            inputs = self._collector.collect(
                unit.invocation, unit.roots, unit.environment, learned.files
            )
        except OSError as error:
            raise CompileHere(f"cannot read {error.filename}: {error.strerror}") from error
        action = action_of(unit, inputs, learned)
        is_edited = _is_edited(unit, last_key, action)
        return Draft(action=action, inputs=inputs, learned=learned, is_edited=is_edited)

    def _base(self, unit: Unit) -> BuiltAction:
        """The unit's key without what it turned out to read."""
        return self._draft(unit, NOTHING, "").action

    async def _told(self, ask: Ask, draft: Draft) -> Learned | None:
        """What compiles of the unit in other places turned out to read."""
        base = draft.action if draft.learned == NOTHING else self._base(ask.unit)
        return await find_learned(self._notes, base, ask.unit.roots, ask.server, ask.instance)

    async def _note(self, ask: Ask, draft: Draft, made: Result) -> None:
        """Under which key it was found, and for others what workers found out."""
        if made.is_of_path:
            self._journal.note(Subject.of(ask.unit.invocation), made.action)
        server = ask.server
        if made.outcome != "remote" or draft.learned == NOTHING or server is None:
            return
        name, note = note_of(self._base(ask.unit), draft.learned, ask.unit.roots)
        try:
            await self._notes.keep(name, note, ask.instance)
            await publish_note(name, note, server)
        except DistbuildError as error:
            _LOG.info("what a worker has read is not noted: %s", error)

    async def _known(
        self, ask: Ask, learned: Learned, last_key: str, *, asks_others: bool
    ) -> tuple[Draft, Result | Miss | None]:
        """What caches have of a unit that reads `learned`, or what others have learned of it.

        Raises CompileHere and NotUnderstood.
        """
        draft = self._draft(ask.unit, learned, last_key)
        self._journal.note(Subject.of(ask.unit.invocation), draft.action)
        found = await self._cached(ask, draft)
        if found is not None or not asks_others:
            return draft, found
        told = await self._told(ask, draft)
        # what reads nothing beside has no note
        others_learned = NOTHING if told is None else told
        if others_learned == learned:
            return replace(draft, told=learned), None
        others = self._draft(ask.unit, others_learned, last_key)
        found = await self._cached(ask, others)
        if found is None and told is None:
            return draft, None
        self._journal.note(Subject.of(ask.unit.invocation), others.action)
        return replace(others, told=others_learned), found

    async def _cached(self, ask: Ask, draft: Draft) -> Result | Miss | None:
        """A result under either key; the shared one may hold what is right elsewhere only.

        Raises CompileHere when what is there for this place cannot be used.
        """
        unit, shared = ask.unit, draft.action
        if self._why_not_shared(unit, shared) is None:
            try:
                found = await self._look_up(ask, draft, _Keys(shared, unit.roots))
                if isinstance(found, Result):
                    self._not_carried(unit, found, draft)
                return found
            except CompileHere as error:
                self._unusable[shared.digest] = str(error)
        return await self._look_up(ask, draft, _Keys(shared, unit.roots, only_own=True))

    def _why_not_shared(self, unit: Unit, shared: BuiltAction) -> str | None:
        """Why the shared key is of no use, if it is of none."""
        return KEEPS_PATHS if unit.keeps_paths else self._unusable.get(shared.digest)

    async def _look_up(self, ask: Ask, draft: Draft, keys: _Keys) -> Result | Miss | None:
        """Raises CompileHere when what there is cannot be used."""
        for action in keys:
            known = await self._local.lookup(ask.instance, action.digest)
            if known is not None:
                found = Found(
                    outcome="hit-local",
                    worker=None,
                    action=action,
                    action_result=known,
                    is_of_path=action is not draft.action,
                )
                return await usable(self._local, ask.unit, found, action.required_names)
        server = ask.server
        if server is None:
            return None
        server.look_up_at_once(_asked_for(keys, draft))
        try:
            there = await look_up(server, keys, draft.action)
            return await self._fetched(ask, draft, server, there) if there else None
        except DistbuildError as error:
            return _trouble(server, error, draft)

    async def _made(self, ask: Ask, draft: Draft) -> Result | Miss:
        """What a worker makes of it. Raises FailedThere."""
        reason, remote = self._why_not_shared(ask.unit, draft.action), ask.remote
        if reason is not None:
            return Miss(reason, draft)
        if not isinstance(remote, Remote):
            return Miss(remote or NEW, draft)
        if remote.is_down:
            return Miss(f"the server {remote.url} is left alone: it {remote.trouble}", draft)
        if draft.is_edited:
            return Miss(EDITED, draft)
        try:
            if not draft.action.is_for_workers or not await remote.executes(draft.action):
                return Miss(NEW, draft)
            if ask.has_idle_core() and await remote.is_crowded():
                return Miss(CROWDED, draft)
            early = partial(self._early, ask, draft, remote)
            made = await execute(remote, draft.action, early)
            result = await self._fetched(ask, draft, remote, made)
            self._not_carried(ask.unit, result, draft)
            return result
        except DistbuildError as error:
            return _trouble(remote, error, draft)
        except CompileHere as error:
            reason = self._unusable[draft.action.digest] = str(error)
            return Miss(reason, draft)

    async def _fetched(self, ask: Ask, draft: Draft, remote: Remote, found: Found) -> Result:
        """A server's result, brought here and kept. Raises DistbuildError and CompileHere."""
        lacking = await self._local.missing(found.blobs)
        if found.outcome == "hit-remote" and lacking:
            await self._early(ask, draft, remote, found)
        await fetch_blobs(self._local, remote, lacking)
        result = await usable(self._local, ask.unit, found, found.action.required_names)
        await self._local.keep(ask.instance, found.action.digest, found.action_result)
        return result

    async def _early(self, ask: Ask, draft: Draft, remote: Remote, found: Found) -> None:
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
            result = await usable(self._local, unit, early, names)
            if not self._not_carried(unit, result, draft):
                await ask.on_early(_of_draft(result, unit, draft))
        except CompileHere as reason:
            _LOG.info("%s: no early metadata: %s", unit.invocation.crate_name, reason)

    def _not_carried(self, unit: Unit, found: Result, draft: Draft) -> set[str]:
        """Raises CompileHere and NotUnderstood."""
        check_ways(unit, found.dep_info, draft.inputs)
        return environment_not_carried(
            unit, found.dep_info, draft.learned.names,
            partial(self._collector.hands_on, unit.invocation), is_of_path=found.is_of_path,
        )  # fmt: skip


def sources_of(unit: Unit, draft: Draft | None, learned: Learned) -> str:
    """The hash of the unit's package directory as far as it read that, or nothing for a registry's,
    or where it has no key, or has just turned out to read more."""
    package = unit.roots.package
    new = set(learned.files) - set(draft.learned.files) if draft else set()
    if any(is_apart(path, unit.invocation, unit.roots) for path in new):
        return ""
    directories = draft.inputs.directories if draft else {}
    found = directories.get(unit.roots.staged(package) or "")
    return "" if found is None or is_published(package) else found.hash


def _of_draft(result: Result, unit: Unit, draft: Draft) -> Result:
    key, sources = draft.action.digest, sources_of(unit, draft, draft.learned)
    return replace(result, learned=draft.learned, key=key, sources=sources)


def _of_this_place(learned: Learned, roots: Roots) -> Learned:
    """Without files that have no name here: another revision of a repository has others."""
    files = (path for path in learned.files if path.startswith(ABOVE) or roots.staged(path))
    return replace(learned, files=tuple(files))


def _asked_for(keys: _Keys, draft: Draft) -> Iterator[Digest]:
    """What is asked for of a unit that nobody has, in this order."""
    for action in keys:
        yield action.digest
    if draft.learned == NOTHING:
        yield note_name(draft.action).digest


def _trouble(remote: Remote, error: DistbuildError, draft: Draft) -> Miss:
    if isinstance(error, OutOfSpace):
        return Miss(f"the result could not be used: {trouble(error)}", draft)
    remote.note(error)
    return Miss(f"the server {remote.url}: {error}", draft)


def _is_edited(unit: Unit, last_key: str, action: BuiltAction) -> bool:
    """Whether rustc's own incremental state will serve the user better than a worker."""
    return last_key not in ("", action.digest.hash) and not is_fresh(unit.invocation)


def check(unit: Unit) -> None:
    """Refuse what the ladder cannot take. Raises NotUnderstood."""
    if "dep-info" not in unit.invocation.emit:
        raise NotUnderstood(f"writes no {dep_info_name(unit.invocation)} to check it by")
