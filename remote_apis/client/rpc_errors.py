"""gRPC errors as the errors of this project: one table, used by every client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import BY_LABEL, DigestFunction, infer
from remote_apis.errors import (
    BlobNotFound,
    DistbuildError,
    FailedPrecondition,
    InvalidRequest,
    MissingBlobs,
    NotFound,
    OffsetOutOfRange,
    OutOfSpace,
    PermissionDenied,
    Unavailable,
    Unsupported,
)

_DETAILS_HEADER = "grpc-status-details-bin"
_MISSING = "MISSING"
# What is not listed, INTERNAL and UNKNOWN among it, says nothing about the request: Unavailable.
_ERRORS: dict[grpc.StatusCode, type[DistbuildError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: OffsetOutOfRange,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OutOfSpace,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RetryLater(Unavailable):
    """Unavailable, and the server said when to try again."""

    def __init__(self, message: str, delay: float) -> None:
        super().__init__(message)
        self.delay = delay


@contextmanager
def rpc_errors(what: str, *, blob: Digest | None = None) -> Iterator[None]:
    """Turn a gRPC error inside into one of `remote_apis.errors`, its message led by `what`.

    With `blob`, NOT_FOUND is BlobNotFound of that digest.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_of_call(error, what, blob=blob) from error


def error_of_call(
    error: grpc.aio.AioRpcError, what: str, *, blob: Digest | None = None
) -> DistbuildError:
    """The project's error for a failed call."""
    details: Sequence[AnyMessage] = ()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_HEADER and isinstance(value, bytes):
            details = status_pb2.Status.FromString(value).details
    return _make(error.code(), error.details() or "", details, what, blob)


def error_of_status(
    status: status_pb2.Status, what: str, *, blob: Digest | None = None
) -> DistbuildError:
    """The project's error for a status that came inside a response and is not OK."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _make(code, status.message, status.details, what, blob)


def missing_blobs_in(details: Iterable[AnyMessage]) -> tuple[Digest, ...]:
    """The digests that PreconditionFailure details name as MISSING (REAPI 2.12 Execute)."""
    found = []
    for detail in details:
        failure = error_details_pb2.PreconditionFailure()
        if detail.Is(failure.DESCRIPTOR) and detail.Unpack(failure):
            for violation in failure.violations:
                digest = _digest_of_subject(violation.subject)
                if violation.type == _MISSING and digest is not None:
                    found.append(digest)
    return tuple(found)


def missing_blobs_detail(digests: Iterable[Digest]) -> AnyMessage:
    """A PreconditionFailure with one MISSING violation for each digest."""
    failure = error_details_pb2.PreconditionFailure()
    for digest in digests:
        infix = f"{digest.function.label}/" if digest.function.is_named_in_paths else ""
        failure.violations.add(type=_MISSING, subject=f"blobs/{infix}{digest.resource}")
    packed = AnyMessage()
    packed.Pack(failure)
    return packed


def _make(
    code: grpc.StatusCode,
    text: str,
    details: Sequence[AnyMessage],
    what: str,
    blob: Digest | None,
) -> DistbuildError:
    if code is grpc.StatusCode.NOT_FOUND and blob is not None:
        return BlobNotFound(blob)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        missing = missing_blobs_in(details)
        if missing:
            return MissingBlobs(missing, what=what)
    message = f"{what}: {text or code.name}"
    error = _ERRORS.get(code)
    if error is not None:
        return error(message)
    delay = _retry_delay(details)
    return Unavailable(message) if delay is None else RetryLater(message, delay)


def _retry_delay(details: Iterable[AnyMessage]) -> float | None:
    for detail in details:
        info = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return float(info.retry_delay.seconds) + float(info.retry_delay.nanos) / 1e9
    return None


def _digest_of_subject(subject: str) -> Digest | None:
    """Reads blobs/[function/]hash/size, with anything before it; None for another form."""
    parts = subject.split("/")
    if "blobs" not in parts:
        return None
    rest = parts[parts.index("blobs") + 1 :]
    function: DigestFunction | None
    if len(rest) == 3:
        function, rest = BY_LABEL.get(rest[0]), rest[1:]
    else:
        function = infer(len(rest[0])) if rest else None
    if function is None or len(rest) != 2 or not rest[1].isdecimal():
        return None
    try:
        return Digest.parse(rest[0], int(rest[1]), function)
    except InvalidRequest:
        return None
