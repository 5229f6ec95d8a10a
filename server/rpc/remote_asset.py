"""Fetch and Push (Remote Asset API)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2 as ra_pb
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2_grpc as ra_grpc
from server.asset.errors import OriginError, Reason
from server.asset.index import Asset, AssetKey, AssetKind, Qualifiers
from server.asset.service import AssetService, FetchQuery
from server.rpc.terms import Terms

_Context = grpc.aio.ServicerContext[Any, Any]
_Fetch: TypeAlias = ra_pb.FetchBlobRequest | ra_pb.FetchDirectoryRequest
_Push: TypeAlias = ra_pb.PushBlobRequest | ra_pb.PushDirectoryRequest
_Response = TypeVar("_Response", ra_pb.FetchBlobResponse, ra_pb.FetchDirectoryResponse)
_SECOND: Final = 1_000_000_000
_MAX_URIS: Final = 10_000
_MAX_LENGTH: Final = 64 * 1024
_CODES: Final = {
    Reason.NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.PERMISSION_DENIED: code_pb2.PERMISSION_DENIED,
    Reason.DEADLINE_EXCEEDED: code_pb2.DEADLINE_EXCEEDED,
    Reason.ABORTED: code_pb2.ABORTED,
}


class FetchServicer(ra_grpc.FetchServicer):
    """What lies with origins goes into the response's status; the rest is a gRPC status."""

    def __init__(self, *, assets: AssetService, terms: Terms) -> None:
        self._assets = assets
        self._terms = terms

    async def FetchBlob(
        self, request: ra_pb.FetchBlobRequest, context: _Context
    ) -> ra_pb.FetchBlobResponse:
        response = ra_pb.FetchBlobResponse()
        digest = await self._fetch(request, AssetKind.BLOB, response)
        if digest is not None:
            response.blob_digest.CopyFrom(digest.to_message())
        return response

    async def FetchDirectory(
        self, request: ra_pb.FetchDirectoryRequest, context: _Context
    ) -> ra_pb.FetchDirectoryResponse:
        response = ra_pb.FetchDirectoryResponse()
        digest = await self._fetch(request, AssetKind.DIRECTORY, response)
        if digest is not None:
            response.root_directory_digest.CopyFrom(digest.to_message())
        return response

    async def _fetch(self, request: _Fetch, kind: AssetKind, response: _Response) -> Digest | None:
        """Fill the response but for its digest."""
        query = self._query(request, kind)
        response.digest_function = query.key.function.number  # type: ignore[assignment]
        try:
            fetched = await self._assets.fetch(query)
        except OriginError as error:
            response.uri = error.uri
            response.status.CopyFrom(
                status_pb2.Status(code=_CODES[error.reason], message=str(error)[:1000])
            )
            return None
        response.status.SetInParent()
        response.uri = fetched.uri
        for name, value in fetched.qualifiers:
            response.qualifiers.add(name=name, value=value)
        if fetched.expires_at is not None:
            response.expires_at.FromNanoseconds(fetched.expires_at)
        return fetched.digest

    def _query(self, request: _Fetch, kind: AssetKind) -> FetchQuery:
        has_oldest = request.HasField("oldest_content_accepted")
        return FetchQuery(
            key=AssetKey(
                instance=self._terms.check_instance(request.instance_name),
                kind=kind,
                function=self._terms.function(request.digest_function, []),
                qualifiers=_qualifiers(request.qualifiers),
            ),
            uris=_uris(request.uris),
            oldest=_nanoseconds(request.oldest_content_accepted) if has_oldest else 0,
            timeout=_seconds(request.timeout),
        )


class PushServicer(ra_grpc.PushServicer):
    """Whoever may push decides what others fetch under the URIs; qualifiers are not checked."""

    def __init__(self, *, assets: AssetService, terms: Terms) -> None:
        self._assets = assets
        self._terms = terms

    async def PushBlob(
        self, request: ra_pb.PushBlobRequest, context: _Context
    ) -> ra_pb.PushBlobResponse:
        if not request.HasField("blob_digest"):
            raise InvalidRequest("blob_digest is not set")
        await self._push(request, AssetKind.BLOB, request.blob_digest)
        return ra_pb.PushBlobResponse()

    async def PushDirectory(
        self, request: ra_pb.PushDirectoryRequest, context: _Context
    ) -> ra_pb.PushDirectoryResponse:
        if not request.HasField("root_directory_digest"):
            raise InvalidRequest("root_directory_digest is not set")
        await self._push(request, AssetKind.DIRECTORY, request.root_directory_digest)
        return ra_pb.PushDirectoryResponse()

    async def _push(self, request: _Push, kind: AssetKind, message: Any) -> None:
        instance = self._terms.check_instance(request.instance_name)
        function = self._terms.function(request.digest_function, [message.hash])
        uris, qualifiers = _uris(request.uris), _qualifiers(request.qualifiers)
        asset = Asset(
            digest=Digest.from_message(message, function),
            created_at=self._assets.now(),
            expires_at=_nanoseconds(request.expire_at) if request.HasField("expire_at") else None,
            blobs=tuple(Digest.from_message(m, function) for m in request.references_blobs),
            directories=tuple(
                Digest.from_message(m, function) for m in request.references_directories
            ),
            qualifiers=qualifiers,
        )
        key = AssetKey(instance=instance, kind=kind, function=function, qualifiers=qualifiers)
        await self._assets.push(key, uris, asset)


def _uris(uris: Sequence[str]) -> tuple[str, ...]:
    if not uris:
        raise InvalidRequest("uris is empty")
    if len(uris) > _MAX_URIS:
        raise InvalidRequest(f"there are {len(uris)} URIs, at most {_MAX_URIS} are accepted")
    for uri in uris:
        if not uri or len(uri) > _MAX_LENGTH:
            raise InvalidRequest(f"a URI has {len(uri)} characters")
    return tuple(uris)


def _qualifiers(qualifiers: Iterable[ra_pb.Qualifier]) -> Qualifiers:
    values: dict[str, str] = {}
    for qualifier in qualifiers:
        if not qualifier.name:
            raise InvalidRequest("a qualifier has no name")
        if qualifier.name in values:
            raise InvalidRequest(f"qualifier {qualifier.name[:160]!r} is given twice")
        values[qualifier.name] = qualifier.value
    return tuple(sorted(values.items()))


def _nanoseconds(timestamp: Timestamp) -> int:
    """Raises InvalidRequest for a timestamp outside of what protobuf allows."""
    if not -62_135_596_800 <= timestamp.seconds <= 253_402_300_799 or not (
        0 <= timestamp.nanos < _SECOND
    ):
        raise InvalidRequest(f"timestamp of {timestamp.seconds} s is out of range")
    # columns and nanoseconds of 64 bits reach to the year 2262
    return max(0, min(timestamp.seconds * _SECOND + timestamp.nanos, 2**63 - 1))


def _seconds(duration: Duration) -> float | None:
    """None when it is not set, or 0, which many clients send for that."""
    seconds = duration.seconds + duration.nanos / _SECOND
    if seconds < 0:
        raise InvalidRequest(f"timeout of {seconds:g} s is negative")
    return seconds or None
