"""From an Execute request to what the scheduler needs: reads and checks the action."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, InvalidRequest, MissingBlobs
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all
from server.rpc.execution_checks import (
    ExecutionLimits,
    check_command,
    check_property_names,
    effective_timeout,
    normal_path,
    platform_of,
)
from server.rpc.execution_inputs import InputRoots
from server.scheduler.matching import selecting
from server.scheduler.values import ExecuteSpec, Offer, Requirement

_M = TypeVar("_M", bound=Message)


class ActionPreparer:
    """Reads an action and everything below it, and refuses what cannot run.

    `offers` tells what the connected workers offer.
    """

    def __init__(
        self,
        store: BlobStore,
        limits: ExecutionLimits,
        *,
        offers: Callable[[], Collection[Offer]],
    ) -> None:
        self._store = store
        self._limits = limits
        self._offers = offers
        self._inputs = InputRoots(store, limits)

    async def prepare(self, draft: ExecuteSpec, *, is_known: bool) -> ExecuteSpec:
        """Complete a draft that has everything but the action's own content.

        `is_known`: an equal action is in flight, so its inputs have been looked at. Raises
        InvalidRequest, and MissingBlobs with all that is missing.
        """
        action = await self._read(draft.digest, re_pb.Action, "Action")
        function = draft.digest.function
        command_digest = Digest.from_message(action.command_digest, function)
        root = Digest.from_message(action.input_root_digest, function)
        timeout = effective_timeout(action, self._limits)
        missing: list[Digest] = []
        command = None
        try:
            command = await self._read(command_digest, re_pb.Command, "Command")
            check_command(command, self._limits)
        except MissingBlobs as error:
            missing += error.digests
        platform = platform_of(action, command)
        if not is_known:
            missing += await self._inputs.missing(root)
        if missing:
            raise MissingBlobs(list(dict.fromkeys(missing)), what=f"action {draft.digest}")
        if command is not None and not is_known:
            await self._check_working_directory(root, command.working_directory)
        check_property_names(platform, self._offers(), self._limits)
        if timeout is not None:
            action.timeout.CopyFrom(timeout)
        return ExecuteSpec(
            requirement=Requirement(draft.requirement.instance, selecting(platform)),
            packed_digest=draft.packed_digest,
            action=action.SerializeToString(deterministic=True),
            do_not_cache=action.do_not_cache,
            priority=draft.priority,
            invocation=draft.invocation,
            label=draft.label,
            wishes=draft.wishes,
        )

    async def _check_working_directory(self, root: Digest, path: str) -> None:
        normal = normal_path("", path, "working directory")
        if normal and not await self._inputs.has_directory(root, normal):
            raise InvalidRequest(
                f"working directory {path[:300]!r} is not a directory of the input root"
            )

    async def _read(self, digest: Digest, kind: type[_M], what: str) -> _M:
        if digest.size > self._limits.max_message_bytes:
            raise InvalidRequest(f"{what} {digest} is too large")
        try:
            return kind.FromString(await read_all(self._store, digest))
        except BlobNotFound as error:
            raise MissingBlobs([error.digest], what=f"{what} {digest}") from error
        except DecodeError as error:
            raise InvalidRequest(f"blob {digest} is not a message {what}: {error}") from error
