"""Why an asset could not be had from where its URI points."""

from __future__ import annotations

from enum import Enum

from remote_apis.errors import DistbuildError


class Reason(Enum):
    """The codes of FetchBlobResponse.status (Remote Asset API)."""

    NOT_FOUND = "not found"
    PERMISSION_DENIED = "permission denied"
    DEADLINE_EXCEEDED = "deadline exceeded"
    ABORTED = "aborted"


class OriginError(DistbuildError):
    """The origin's fault, or a refusal to go there; `uri` is the one of the request's URIs."""

    def __init__(self, reason: Reason, message: str, *, uri: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.uri = uri
