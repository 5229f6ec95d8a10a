"""The ladder: a unit's result from the local tier, from the server's cache, from a worker, or from
rustc here. This is the one place where that is decided, and every "here" has a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from google.rpc import code_pb2

from remote_apis import link_set
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, build_action, platform_of
from wrapper.dep_info import environment_read
from wrapper.inputs.collect import Collector, Inputs
from wrapper.inputs.environment import environment_of_action
from wrapper.inputs.toolchain import machine
from wrapper.local_tier import LocalTier, any_contains, named_blobs
from wrapper.path_values import package_mentions, package_uses_value
from wrapper.remote import Remote
from wrapper.roots import OUTPUTS, ROOT_DIRECTORY, Roots
from wrapper.rustc.arguments import Invocation, NotUnderstood
from wrapper.rustc.outputs import dep_info_name

FUNCTION = DigestFunction.SHA256
"""The function every REAPI server has."""

_MANIFEST = "CARGO_MANIFEST_DIR"
_MAX_ROUNDS = 4
_SMALL = 1 << 20


class CompileHere(Exception):
    """rustc has to run on this machine; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One compile as cargo asked for it, and its places."""

    invocation: Invocation
    roots: Roots
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A usable result: every blob is in the local tier. `worker` is set when one just made it."""

    outcome: str
    worker: str | None
    action_result: re_pb.ActionResult
    dep_info: bytes


class Ladder:
    """Takes units down the ladder. One a daemon; used by one event loop."""

    def __init__(self, collector: Collector, local: LocalTier) -> None:
        self._collector = collector
        self._local = local
        self._unusable: dict[Digest, str] = {}

    async def resolve(self, unit: Unit, remote: Remote | str, instance: str) -> Result:
        """The unit's result; `remote` is the server or why there is none.

        Raises CompileHere or NotUnderstood with the reason.
        """
        inputs = await asyncio.to_thread(self._inputs, unit)
        learned: set[str] = set()
        for _ in range(_MAX_ROUNDS):
            action = await asyncio.to_thread(_build, unit, inputs, frozenset(learned))
            result = await self._step_down(action, remote, instance)
            unknown = _environment_differs(unit, result.dep_info, learned)
            if not unknown:
                return result
            learned |= unknown
        raise CompileHere("reads ever more of the environment")

    def _inputs(self, unit: Unit) -> Inputs:
        if package_uses_value(unit.roots.package, _MANIFEST):
            raise CompileHere('puts env!("CARGO_MANIFEST_DIR"), a path of this checkout, into it')
        try:
            return self._collector.collect(unit.invocation, unit.roots, unit.environment)
        except OSError as error:
            raise CompileHere(f"cannot read {error.filename}: {error.strerror}") from error

    async def _step_down(self, action: BuiltAction, remote: Remote | str, instance: str) -> Result:
        if action.digest in self._unusable:
            raise CompileHere(self._unusable[action.digest])
        known = await self._local.lookup(instance, action.digest)
        if known is not None:
            return await self._usable("hit-local", None, known, action)
        if isinstance(remote, str):
            raise CompileHere(remote)
        if remote.is_down:
            raise CompileHere(f"the server {remote.url} cannot be reached")
        try:
            outcome, worker, result = await _from_server(remote, action)
            await self._fetch(remote, result)
        except DistbuildError as error:
            remote.note(error)
            raise CompileHere(f"the server {remote.url}: {error}") from error
        usable = await self._usable(outcome, worker, result, action)
        await self._local.keep(instance, action.digest, result)
        return usable

    async def _fetch(self, remote: Remote, result: re_pb.ActionResult) -> None:
        missing = await self._local.missing(set(named_blobs(result, FUNCTION)))
        small = [digest for digest in missing if digest.size <= _SMALL]
        for digest, data in (await remote.read_many(small)).items():
            await self._local.store(digest, data)
        for digest in missing.difference(small):
            async with aclosing(remote.stream(digest)) as chunks:
                await self._local.store_stream(digest, chunks)

    async def _usable(
        self, outcome: str, worker: str | None, result: re_pb.ActionResult, action: BuiltAction
    ) -> Result:
        """Check a result before anyone sees it. Raises CompileHere."""
        files = {f.path.removeprefix(f"{OUTPUTS}/"): f.digest for f in result.output_files}
        lacking = sorted(set(action.required_names) - files.keys())
        if lacking:
            raise CompileHere(f"the result lacks {lacking[0]}")
        paths = [
            await self._local.path(Digest.from_message(message, FUNCTION))
            for name, message in files.items()
            if not name.endswith(".d") and message.size_bytes
        ]
        if outcome != "hit-local" and await any_contains(paths, ROOT_DIRECTORY.encode()):
            self._unusable[action.digest] = "its output holds the path where it was compiled"
            raise CompileHere(self._unusable[action.digest])
        dep_info = next((m for name, m in files.items() if name.endswith(".d")), None)
        data = b""
        if dep_info is not None:
            data = await self._local.read(Digest.from_message(dep_info, FUNCTION))
        return Result(outcome=outcome, worker=worker, action_result=result, dep_info=data)


async def _from_server(
    remote: Remote, action: BuiltAction
) -> tuple[str, str | None, re_pb.ActionResult]:
    """Outcome, worker and result. Raises DistbuildError, or CompileHere when it failed there."""
    found = await remote.lookup(action.digest)
    if found is not None and found.exit_code == 0:
        return "hit-remote", None, found
    response = await remote.execute(action)
    worker = response.result.execution_metadata.worker or "a worker"
    if response.status.code != code_pb2.OK:
        raise CompileHere(f"{worker} failed: {response.status.message}")
    if response.result.exit_code != 0:
        raise CompileHere(f"did not compile on {worker} (exit code {response.result.exit_code})")
    if response.cached_result:
        return "hit-remote", None, response.result
    return "remote", worker, response.result


def _build(unit: Unit, inputs: Inputs, learned: frozenset[str]) -> BuiltAction:
    set_digest = link_set.link_set() if unit.invocation.links else None
    return build_action(
        invocation=unit.invocation,
        roots=unit.roots,
        environment=environment_of_action(unit.environment, learned),
        inputs=inputs,
        platform=platform_of(unit.invocation, machine(), set_digest),
        function=FUNCTION,
    )


def _environment_differs(unit: Unit, dep_info: bytes, learned: set[str]) -> set[str]:
    """Variables that the compile read and that its action did not carry as they are here.

    Raises CompileHere when one is a path of this checkout whose value may be in the artifact.
    """
    carried = environment_of_action(unit.environment, learned)
    unknown: set[str] = set()
    for name in environment_read(dep_info):
        value = unit.environment.get(name)
        if value is None or (name in carried and unit.roots.stage_text(value) == value):
            continue
        if name not in carried:
            unknown.add(name)
        elif name == _MANIFEST and not package_mentions(unit.roots.package, name):
            raise CompileHere(f"a macro of another crate puts the path {name} into it")
        elif package_uses_value(unit.roots.package, name):
            raise CompileHere(f"puts the path in {name} into it")
    return unknown


def check(unit: Unit) -> None:
    """Refuse what the ladder cannot take. Raises NotUnderstood."""
    if "dep-info" not in unit.invocation.emit:
        raise NotUnderstood(f"writes no {dep_info_name(unit.invocation)} to check it by")
