"""The ActionCache as a client sees it."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from remote_apis.client.retry import retrying
from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.settings import ClientLimits, Metadata
from remote_apis.digest import Digest
from remote_apis.errors import NotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc


class ActionCacheClient:
    """Results of one instance. Raises the errors of `remote_apis.errors`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        instance: str = "",
        limits: ClientLimits | None = None,
        metadata: Metadata = (),
    ) -> None:
        self._instance = instance
        self._limits = limits or ClientLimits()
        self._metadata = metadata
        self._stub = re_grpc.ActionCacheStub(channel)

    async def get(
        self,
        action_digest: Digest,
        *,
        inline_stdout: bool = False,
        inline_stderr: bool = False,
        inline_output_files: Sequence[str] = (),
        metadata: Metadata | None = None,
    ) -> re_pb.ActionResult | None:
        """The result, or None when there is none (REAPI 2.12 GetActionResult).

        The server may leave out what was to be inlined; the digests are then to be read.
        """
        request = re_pb.GetActionResultRequest(
            instance_name=self._instance,
            action_digest=action_digest.to_message(),
            inline_stdout=inline_stdout,
            inline_stderr=inline_stderr,
            inline_output_files=inline_output_files,
            digest_function=action_digest.function.name,
        )

        async def attempt() -> re_pb.ActionResult | None:
            try:
                with rpc_errors(f"looking up action {action_digest}"):
                    result: re_pb.ActionResult = await self._stub.GetActionResult(
                        request,
                        metadata=self._metadata if metadata is None else metadata,
                        timeout=self._limits.call_timeout,
                    )
            except NotFound:
                return None
            return result

        return await retrying(self._limits.retry, attempt)

    async def update(
        self,
        action_digest: Digest,
        result: re_pb.ActionResult,
        *,
        metadata: Metadata | None = None,
    ) -> re_pb.ActionResult:
        """Store the result; what it names must be in the CAS. Returns what the server stored.

        Raises PermissionDenied where clients may not write.
        """
        request = re_pb.UpdateActionResultRequest(
            instance_name=self._instance,
            action_digest=action_digest.to_message(),
            action_result=result,
            digest_function=action_digest.function.name,
        )

        async def attempt() -> re_pb.ActionResult:
            with rpc_errors(f"storing the result of action {action_digest}"):
                stored: re_pb.ActionResult = await self._stub.UpdateActionResult(
                    request,
                    metadata=self._metadata if metadata is None else metadata,
                    timeout=self._limits.call_timeout,
                )
                return stored

        return await retrying(self._limits.retry, attempt)
