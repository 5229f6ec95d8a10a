"""A unit's result from a server: looked up in its cache, or made by one of its workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from google.rpc import code_pb2

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.action import BuiltAction
from wrapper.found import Found
from wrapper.remote import Remote
from wrapper.result_checks import CompileHere


class FailedThere(Exception):
    """rustc failed on a worker, with these words on stderr."""

    def __init__(self, message: str, stderr: bytes) -> None:
        super().__init__(message)
        self.stderr = stderr


async def look_up(remote: Remote, keys: Iterable[BuiltAction], shared: BuiltAction) -> Found | None:
    """What the server has under the first of some keys; all but `shared` are of this place alone.

    Raises DistbuildError.
    """
    for action in keys:
        known = await remote.lookup(action.digest)
        if known is not None and known.exit_code == 0:
            return Found(
                outcome="hit-remote",
                worker=None,
                action=action,
                action_result=known,
                is_of_path=action is not shared,
            )
    return None


async def execute(
    remote: Remote, action: BuiltAction, on_early: Callable[[Found], Awaitable[None]]
) -> Found:
    """Have a worker compile it. Raises DistbuildError, FailedThere and CompileHere."""

    async def take_early(result: re_pb.ActionResult) -> None:
        found = Found(
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
    return Found(
        outcome="hit-remote" if response.cached_result else "remote",
        worker=None if response.cached_result else worker,
        action=action,
        action_result=response.result,
        is_of_path=False,
    )
