"""The ladder: a unit's result from the local tier, from the server's cache, from a worker, or from
rustc here. This is the one place where that is decided, and every "here" has a reason.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace

from google.rpc import code_pb2

from remote_apis import link_set
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction, build_action, platform_of
from wrapper.dep_info import rewrite_dep_info
from wrapper.inputs.collect import Collector, Inputs
from wrapper.inputs.environment import environment_of_action
from wrapper.inputs.toolchain import machine
from wrapper.local_tier import LocalTier, any_contains, named_blobs
from wrapper.remote import Remote
from wrapper.result_checks import (
    CompileHere,
    Unit,
    environment_not_carried,
    undefined_variables,
)
from wrapper.roots import OUTPUTS, ROOT_DIRECTORY
from wrapper.rustc.arguments import NotUnderstood
from wrapper.rustc.outputs import dep_info_name
from wrapper.script import root_of

FUNCTION = DigestFunction.SHA256
"""The function every REAPI server has."""

_MAX_ROUNDS = 6
_SMALL = 1 << 20


class FailedThere(Exception):
    """rustc failed on a worker, with these words on stderr."""

    def __init__(self, message: str, stderr: bytes) -> None:
        super().__init__(message)
        self.stderr = stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A usable result: every blob is in the local tier. `worker` is set when one just made it.

    `root` is the input root that rustc's `stderr` speaks of; `dep_info` has this checkout's paths;
    `learned` names the variables that the key holds beside cargo's own.
    """

    outcome: str
    worker: str | None
    action_result: re_pb.ActionResult
    root: str
    stdout: bytes
    stderr: bytes
    dep_info: bytes
    learned: frozenset[str] = frozenset()


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
        learned = set(self._collector.last_record(unit.invocation).environment)
        for _ in range(_MAX_ROUNDS):
            action = await asyncio.to_thread(_build, unit, inputs, frozenset(learned))
            try:
                result = await self._step_down(unit, action, remote, instance)
                unknown = environment_not_carried(unit, result.dep_info, learned)
            except FailedThere as failed:
                unknown = undefined_variables(failed.stderr, unit.environment) - learned
                if not unknown:
                    raise CompileHere(str(failed)) from None
            if not unknown:
                return replace(result, learned=frozenset(learned))
            learned |= unknown
        raise CompileHere("reads ever more of the environment")

    def _inputs(self, unit: Unit) -> Inputs:
        try:
            return self._collector.collect(unit.invocation, unit.roots, unit.environment)
        except OSError as error:
            raise CompileHere(f"cannot read {error.filename}: {error.strerror}") from error

    async def _step_down(
        self, unit: Unit, action: BuiltAction, remote: Remote | str, instance: str
    ) -> Result:
        if action.digest in self._unusable:
            raise CompileHere(self._unusable[action.digest])
        known = await self._local.lookup(instance, action.digest)
        if known is not None:
            return await self._usable(unit, "hit-local", None, known, action)
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
        usable = await self._usable(unit, outcome, worker, result, action)
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
        self,
        unit: Unit,
        outcome: str,
        worker: str | None,
        result: re_pb.ActionResult,
        action: BuiltAction,
    ) -> Result:
        """Check a result before anyone sees it. Raises CompileHere."""
        files = {
            f.path.removeprefix(f"{OUTPUTS}/"): Digest.from_message(f.digest, FUNCTION)
            for f in result.output_files
        }
        lacking = sorted(set(action.required_names) - files.keys())
        if lacking:
            raise CompileHere(f"the result lacks {lacking[0]}")
        paths = [
            await self._local.path(digest)
            for name, digest in files.items()
            if not name.endswith(".d") and digest.size
        ]
        if outcome != "hit-local" and await any_contains(paths, ROOT_DIRECTORY.encode()):
            self._unusable[action.digest] = "its output holds the path where it was compiled"
            raise CompileHere(self._unusable[action.digest])
        root, stdout = root_of(await self._output(result.stdout_raw, result.stdout_digest))
        dep_info = await self._local.read(files[dep_info_name(unit.invocation)])
        return Result(
            outcome=outcome,
            worker=worker,
            action_result=result,
            root=root,
            stdout=stdout,
            stderr=await self._output(result.stderr_raw, result.stderr_digest),
            dep_info=rewrite_dep_info(dep_info, unit.roots.staged_to_real(root)),
        )

    async def _output(self, raw: bytes, digest: re_pb.Digest) -> bytes:
        if raw or not digest.hash:
            return raw
        return await self._local.read(Digest.from_message(digest, FUNCTION))


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
        stderr = response.result.stderr_raw
        if not stderr and response.result.stderr_digest.hash:
            digest = Digest.from_message(response.result.stderr_digest, FUNCTION)
            stderr = (await remote.read_many([digest]))[digest]
        code = response.result.exit_code
        raise FailedThere(f"did not compile on {worker} (exit code {code})", stderr)
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


def check(unit: Unit) -> None:
    """Refuse what the ladder cannot take. Raises NotUnderstood."""
    if "dep-info" not in unit.invocation.emit:
        raise NotUnderstood(f"writes no {dep_info_name(unit.invocation)} to check it by")
