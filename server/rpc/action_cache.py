"""ActionCache (REAPI 2.12)."""

from __future__ import annotations

from typing import Any

import grpc.aio

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest, MissingBlobs, NotFound, PermissionDenied
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from server.actioncache.interface import ActionCache, ActionKey
from server.blobstore.interface import BlobStore
from server.rpc.inlining import Wishes, fill_in, store_inlined
from server.rpc.messages import read_message
from server.rpc.result_checks import check_result
from server.rpc.terms import Terms

_Context = grpc.aio.ServicerContext[Any, Any]


class ActionCacheServicer(re_grpc.ActionCacheServicer):
    """Results are apart for each instance name; their blobs are shared."""

    def __init__(
        self,
        *,
        cache: ActionCache,
        store: BlobStore,
        terms: Terms,
        update_enabled: bool = True,
        requires_action: bool = True,
    ) -> None:
        """`cache` hands out complete results only: give it completeness checking.

        `update_enabled`: whether clients may store results. `requires_action`: refuse results of
        actions whose Action or Command is not in the store, as REAPI 2.12 UpdateActionResult
        demands of clients.
        """
        self._cache = cache
        self._store = store
        self._terms = terms
        self._update_enabled = update_enabled
        self._requires_action = requires_action

    async def GetActionResult(
        self, request: re_pb.GetActionResultRequest, context: _Context
    ) -> re_pb.ActionResult:
        key = self._key(request)
        result = await self._cache.get(key)
        if result is None:
            raise NotFound(f"there is no result for action {key.digest}")
        wishes = Wishes(
            stdout=request.inline_stdout,
            stderr=request.inline_stderr,
            files=frozenset(request.inline_output_files),
        )
        await fill_in(result, wishes, self._store, key.digest.function)
        return result

    async def UpdateActionResult(
        self, request: re_pb.UpdateActionResultRequest, context: _Context
    ) -> re_pb.ActionResult:
        if not self._update_enabled:
            raise PermissionDenied("clients may not update the action cache of this server")
        key = self._key(request)
        if not request.HasField("action_result"):
            raise InvalidRequest("action_result is not set")
        result = request.action_result
        check_result(result, key.digest.function)
        if self._requires_action:
            await self._check_action(key.digest)
        await store_inlined(result, self._store, key.digest.function)
        await self._cache.put(key, result)
        return result

    def _key(
        self, request: re_pb.GetActionResultRequest | re_pb.UpdateActionResultRequest
    ) -> ActionKey:
        instance = self._terms.check_instance(request.instance_name)
        function = self._terms.function(request.digest_function, [request.action_digest.hash])
        return ActionKey(instance, Digest.from_message(request.action_digest, function))

    async def _check_action(self, digest: Digest) -> None:
        """Raises MissingBlobs without the Action and its Command, InvalidRequest for nonsense."""
        what = f"the result of action {digest}"
        if await self._store.find_missing([digest]):
            raise MissingBlobs([digest], what=what)
        action = await read_message(self._store, digest, re_pb.Action)
        command = Digest.from_message(action.command_digest, digest.function)
        if await self._store.find_missing([command]):
            raise MissingBlobs([command], what=what)
