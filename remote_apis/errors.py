"""The errors that both ends of the wire know; server.rpc.status maps each to a gRPC status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remote_apis.digest import Digest


class DistbuildError(Exception):
    """Base of the errors below. The message is for the user: which input, what was wrong."""


class InvalidRequest(DistbuildError):
    """The request is wrong in itself (INVALID_ARGUMENT)."""


class InvalidFields(InvalidRequest):
    """Some fields of the request are wrong; one violation each, field and description, goes out."""

    def __init__(self, message: str, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


class DigestMismatch(InvalidRequest):
    """Bytes are not those that their digest names (INVALID_ARGUMENT)."""


class BlobNotFound(DistbuildError):
    """A blob is not in the store (NOT_FOUND)."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"blob {digest} is not in the store")
        self.digest = digest


class NotFound(DistbuildError):
    """Something else that was named does not exist (NOT_FOUND)."""


class OffsetOutOfRange(DistbuildError):
    """A read offset lies outside the blob (OUT_OF_RANGE)."""


class FailedPrecondition(DistbuildError):
    """The request needs something that is not there (FAILED_PRECONDITION)."""


class MissingBlobs(FailedPrecondition):
    """An action needs blobs that are not in the store; one violation each goes to the client."""

    def __init__(self, digests: Sequence[Digest], *, what: str = "the action") -> None:
        super().__init__(
            f"{what} needs {len(digests)} blob(s) that are not in the store, first {digests[0]}"
        )
        self.digests = tuple(digests)


class OutOfSpace(DistbuildError):
    """A quota or the disk is full (RESOURCE_EXHAUSTED)."""


class Unavailable(DistbuildError):
    """A part of the service cannot be reached now; trying again may help (UNAVAILABLE)."""


class PermissionDenied(DistbuildError):
    """The caller may not do this (PERMISSION_DENIED)."""


class Unsupported(DistbuildError):
    """The server does not offer this (UNIMPLEMENTED)."""
