"""The one table from our errors to gRPC statuses."""

from __future__ import annotations

import logging
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from remote_apis import errors
from remote_apis.digest import Digest

_LOG = logging.getLogger(__name__)

_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (errors.InvalidRequest, code_pb2.INVALID_ARGUMENT),
    (errors.BlobNotFound, code_pb2.NOT_FOUND),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.OffsetOutOfRange, code_pb2.OUT_OF_RANGE),
    (errors.FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (errors.OutOfSpace, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unavailable, code_pb2.UNAVAILABLE),
    (errors.PermissionDenied, code_pb2.PERMISSION_DENIED),
    (errors.Unsupported, code_pb2.UNIMPLEMENTED),
    (DecodeError, code_pb2.INVALID_ARGUMENT),
)
_GRPC_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE: Final = 1000
_RETRY_SECONDS: Final = 1


def status_of(error: BaseException) -> status_pb2.Status:
    """The google.rpc.Status of an error, as batch answers and ExecuteResponse carry it.

    What is not in the table is logged with its traceback and becomes INTERNAL without one.
    """
    error = _innermost(error)
    for kind, code in _CODES:
        if isinstance(error, kind):
            status = status_pb2.Status(code=code, message=str(error)[:_MAX_MESSAGE])
            detail = _detail(error)
            if detail is not None:
                status.details.add().Pack(detail)
            return status
    _LOG.error("unexpected error", exc_info=error)
    return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error of the server")


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The code of a google.rpc.Status as grpc names it."""
    return _GRPC_CODES[status.code]


def missing_blob_subject(digest: Digest) -> str:
    """How a MISSING violation names a blob: `blobs/[function/]hash/size` (REAPI 2.12 Execute)."""
    function = f"{digest.function.label}/" if digest.function.is_named_in_paths else ""
    return f"blobs/{function}{digest.resource}"


def _innermost(error: BaseException) -> BaseException:
    """Of a group of errors the first that the table knows, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_innermost(each) for each in error.exceptions]
    known = tuple(kind for kind, _ in _CODES)
    return next((each for each in inner if isinstance(each, known)), inner[0])


def _detail(error: BaseException) -> Message | None:
    if isinstance(error, errors.MissingBlobs):
        violations = [
            error_details_pb2.PreconditionFailure.Violation(
                type="MISSING", subject=missing_blob_subject(digest)
            )
            for digest in error.digests
        ]
        failure: Message = error_details_pb2.PreconditionFailure(violations=violations)
        return failure
    if isinstance(error, errors.InvalidFields):
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in error.violations
        ]
        bad: Message = error_details_pb2.BadRequest(field_violations=fields)
        return bad
    if isinstance(error, errors.Unavailable):
        retry: Message = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=_RETRY_SECONDS))
        return retry
    return None
