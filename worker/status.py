"""What went wrong with an action as the status of its ExecuteResponse."""

from __future__ import annotations

import errno

from google.rpc import code_pb2, status_pb2

from remote_apis.client.rpc_errors import missing_blobs_detail
from remote_apis.errors import (
    BlobNotFound,
    DistbuildError,
    FailedPrecondition,
    InvalidRequest,
    MissingBlobs,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    Unavailable,
)

# In this order: the first class that fits decides.
_CODES: tuple[tuple[type[DistbuildError], int], ...] = (
    (BlobNotFound, code_pb2.FAILED_PRECONDITION),
    (NotFound, code_pb2.FAILED_PRECONDITION),
    (FailedPrecondition, code_pb2.FAILED_PRECONDITION),
    (InvalidRequest, code_pb2.INVALID_ARGUMENT),
    (OutOfSpace, code_pb2.RESOURCE_EXHAUSTED),
    (Unavailable, code_pb2.UNAVAILABLE),
    (PermissionDenied, code_pb2.PERMISSION_DENIED),
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Names and links that the action itself brought and the file system refuses.
_BAD_INPUT = (errno.ENAMETOOLONG, errno.ELOOP)


def status_of_error(error: Exception, worker: str) -> status_pb2.Status:
    """The status of an action that ended with `error`, naming the worker (REAPI 2.12 Execute)."""
    status = status_pb2.Status(
        code=_code(error), message=f"worker {worker}: {error or type(error).__name__}"
    )
    if isinstance(error, MissingBlobs):
        status.details.append(missing_blobs_detail(error.digests))
    elif isinstance(error, BlobNotFound):
        status.details.append(missing_blobs_detail([error.digest]))
    return status


def _code(error: Exception) -> int:
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return int(code_pb2.RESOURCE_EXHAUSTED)
        if error.errno in _BAD_INPUT:
            return int(code_pb2.INVALID_ARGUMENT)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return int(code_pb2.INTERNAL)


def is_foreseen(error: Exception) -> bool:
    """Whether the error is one that can be expected, and needs no traceback in the log."""
    return isinstance(error, DistbuildError | OSError)
