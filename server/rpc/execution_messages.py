"""Operations as clients see them, and what they find inline."""

from __future__ import annotations

from typing import cast

from google.longrunning import operations_pb2

from remote_apis.digest import Digest
from remote_apis.errors import BlobNotFound, MissingBlobs
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.blobstore.interface import BlobStore, read_all
from server.logstream.live import LiveOutputs
from server.rpc.status import status_of
from server.scheduler.values import OperationSnapshot, Stage, Wishes

_RESPONSE_TYPE = f"type.googleapis.com/{re_pb.ExecuteResponse.DESCRIPTOR.full_name}"
_MAX_VIOLATIONS = 20_000


def operation_message(
    snapshot: OperationSnapshot,
    response: bytes | None = None,
    *,
    live: LiveOutputs | None = None,
    for_people: bool = False,
) -> operations_pb2.Operation:
    """The Operation for a snapshot; `response` replaces the snapshot's own.

    While it runs, `live` knows the streams of what it prints. With `for_people` the auxiliary
    metadata hold a RequestMetadata with target and invocation.

    Operation.error is never set (REAPI 2.12 Execute); done if and only if COMPLETED.
    """
    metadata = re_pb.ExecuteOperationMetadata(
        stage=cast(re_pb.ExecutionStage.Value, int(snapshot.stage)),
        action_digest=snapshot.digest.to_message(),
        digest_function=function_message(snapshot.digest),
    )
    partial = metadata.partial_execution_metadata
    partial.queued_timestamp.FromNanoseconds(snapshot.queued_at)
    partial.worker = snapshot.worker
    if for_people and (snapshot.label or snapshot.invocation):
        about = re_pb.RequestMetadata(
            target_id=snapshot.label, tool_invocation_id=snapshot.invocation
        )
        partial.auxiliary_metadata.add().Pack(about)
    names = None
    if live is not None and snapshot.stage is Stage.EXECUTING:
        names = live.names(snapshot.worker, snapshot.digest)
    if names is not None:
        metadata.stdout_stream_name, metadata.stderr_stream_name = names
    operation = operations_pb2.Operation(name=snapshot.name, done=snapshot.is_done)
    operation.metadata.Pack(metadata)
    if snapshot.response is not None:
        operation.response.type_url = _RESPONSE_TYPE
        operation.response.value = snapshot.response if response is None else response
    return operation


def wishes_of(request: re_pb.ExecuteRequest) -> Wishes | None:
    """What the client wants inline, or None when it wants nothing."""
    wanted = Wishes(
        stdout=request.inline_stdout,
        stderr=request.inline_stderr,
        output_files=tuple(request.inline_output_files),
    )
    return None if wanted == Wishes() else wanted


async def with_wishes(
    data: bytes, digest: Digest, wishes: Wishes | None, store: BlobStore, budget: int
) -> bytes:
    """A serialised ExecuteResponse with what the client wished for inline, and nothing else.

    As much as fits into `budget` bytes; the rest can be read from the CAS (REAPI 2.12
    ActionResult.stdout_raw, OutputFile.contents).
    """
    response = re_pb.ExecuteResponse.FromString(data)
    if not response.HasField("result"):
        return data
    wishes = wishes or Wishes()
    result = response.result
    for name, wanted in (("stdout", wishes.stdout), ("stderr", wishes.stderr)):
        has_blob = result.HasField(f"{name}_digest")
        if wanted and has_blob and not getattr(result, f"{name}_raw"):
            found = await _read(getattr(result, f"{name}_digest"), digest, store, budget)
            setattr(result, f"{name}_raw", found)
        elif has_blob and (not wanted or len(getattr(result, f"{name}_raw")) > budget):
            result.ClearField(f"{name}_raw")
        budget -= len(getattr(result, f"{name}_raw"))
    for file in result.output_files:
        if file.path not in wishes.output_files or len(file.contents) > budget:
            file.ClearField("contents")
        elif not file.contents:
            file.contents = await _read(file.digest, digest, store, budget)
        budget -= len(file.contents)
    return response.SerializeToString(deterministic=True)


async def _read(message: re_pb.Digest, action: Digest, store: BlobStore, budget: int) -> bytes:
    digest = Digest.from_message(message, action.function)
    if digest.size > budget:
        return b""
    try:
        return await read_all(store, digest)
    except BlobNotFound:
        return b""


def cached_response(result: re_pb.ActionResult) -> bytes:
    """The serialised ExecuteResponse for a result from the ActionCache."""
    response = re_pb.ExecuteResponse(result=result, cached_result=True)
    return response.SerializeToString(deterministic=True)


def missing_response(error: MissingBlobs) -> bytes:
    """The serialised ExecuteResponse of an action that lacks more blobs than fit into trailers.

    One MISSING violation for each (REAPI 2.12 Execute).
    """
    short = MissingBlobs(error.digests[:_MAX_VIOLATIONS])
    status = status_of(short)
    status.message = str(error)
    return re_pb.ExecuteResponse(status=status).SerializeToString(deterministic=True)


def function_message(digest: Digest) -> re_pb.DigestFunction.Value:
    """The digest function as messages carry it."""
    return cast(re_pb.DigestFunction.Value, digest.function.number)
