"""The ActionCache as a client sees it."""

from __future__ import annotations

from collections.abc import Sequence

from remote_apis.client.service import ServiceClient
from remote_apis.digest import Digest
from remote_apis.errors import NotFound
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc


class ActionCacheClient(ServiceClient):
    """Results of one instance."""

    _stub_class = re_grpc.ActionCacheStub

    async def get(
        self,
        action_digest: Digest,
        *,
        inline_stdout: bool = False,
        inline_stderr: bool = False,
        inline_output_files: Sequence[str] = (),
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
        what = f"looking up action {action_digest}"
        try:
            result: re_pb.ActionResult = await self._call(what, self._stub.GetActionResult, request)
        except NotFound:
            return None
        return result

    async def update(self, action_digest: Digest, result: re_pb.ActionResult) -> re_pb.ActionResult:
        """Store the result; what it names must be in the CAS. Returns what the server stored.

        Raises PermissionDenied where clients may not write.
        """
        request = re_pb.UpdateActionResultRequest(
            instance_name=self._instance,
            action_digest=action_digest.to_message(),
            action_result=result,
            digest_function=action_digest.function.name,
        )
        what = f"storing the result of action {action_digest}"
        stored: re_pb.ActionResult = await self._call(what, self._stub.UpdateActionResult, request)
        return stored
