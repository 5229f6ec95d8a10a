"""Answers fetches from the index or from the origins, and takes in what is pushed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.errors import InvalidRequest, MissingBlobs
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.completeness import first_missing
from server.asset.errors import OriginError, Reason
from server.asset.index import Asset, AssetIndex, AssetKey, AssetKind, Qualifiers
from server.asset.origins import Found, Origins, Wanted, wanted
from server.asset.qualifiers import check_known, unsupported, without_secrets
from server.asset.settings import AssetSettings
from server.blobstore.interface import BlobStore

_LOG = logging.getLogger(__name__)
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchQuery:
    """A checked fetch: at least one URI, the qualifiers sorted and each name once.

    `oldest`: nanoseconds since 1970, before which nothing reused may have been made or pushed.
    `timeout` seconds for the origins, None for the server's own.
    """

    key: AssetKey
    uris: tuple[str, ...]
    oldest: int = 0
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The content, and the URI that led to it. `expires_at` as in Asset."""

    uri: str
    digest: Digest
    qualifiers: Qualifiers
    expires_at: int | None


class AssetService:
    """`origins` None: only what has been pushed is found."""

    def __init__(
        self,
        *,
        index: AssetIndex,
        store: BlobStore,
        origins: Origins | None,
        settings: AssetSettings,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._store = store
        self._origins = origins
        self._settings = settings
        self._clock = clock

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return self._clock()

    async def fetch(self, query: FetchQuery) -> Fetched:
        """The content of the first URI that has any. Raises OriginError, InvalidRequest.

        What is known for any of the URIs goes first, if it is complete, not expired and young
        enough; then the origins are tried in the order of the URIs.
        """
        known = await self._known(query)
        if known is not None:
            return known
        await self._check_qualifiers(query)
        if self._origins is None:
            raise _not_pushed(query)
        each = wanted(query.key.kind, query.key.function, query.uris, query.key.qualifiers)
        seconds = self._settings.timeout
        if query.timeout is not None:
            seconds = min(seconds, query.timeout)
        return await self._fetch(query, each, self._origins, seconds)

    async def push(self, key: AssetKey, uris: Sequence[str], asset: Asset) -> None:
        """Bind all URIs to content in the store. Raises MissingBlobs, InvalidRequest.

        The references may come later: they are asked for when the asset is.
        """
        missing = await self._first_missing(key.kind, asset.digest)
        if missing is not None:
            raise MissingBlobs([missing], what="the asset")
        await self._index.put(key, uris, asset)

    async def _check_qualifiers(self, query: FetchQuery) -> None:
        """Names that nothing has been pushed with, nor an origin understands, are wrong."""
        names = unsupported(query.key.kind, query.key.qualifiers)
        if not names:
            return
        pushed = await self._index.known_names(query.key, query.uris)
        check_known(names, pushed)
        raise _not_pushed(query)

    async def _known(self, query: FetchQuery) -> Fetched | None:
        found = await self._index.get(query.key, query.uris)
        for uri in query.uris:
            asset = found.get(uri)
            if asset is not None and await self._is_usable(asset, query):
                return Fetched(
                    uri=uri,
                    digest=asset.digest,
                    qualifiers=asset.qualifiers,
                    expires_at=asset.expires_at,
                )
        return None

    async def _is_usable(self, asset: Asset, query: FetchQuery) -> bool:
        if asset.expires_at is not None and asset.expires_at <= self._clock():
            return False
        if asset.created_at < query.oldest:
            return False
        try:
            missing = await self._first_missing(
                query.key.kind, asset.digest, asset.blobs, asset.directories
            )
        except InvalidRequest as error:
            _LOG.warning("asset %s is malformed: %s", asset.digest, error)
            return False
        return missing is None

    async def _first_missing(
        self,
        kind: AssetKind,
        digest: Digest,
        blobs: Sequence[Digest] = (),
        directories: Sequence[Digest] = (),
    ) -> Digest | None:
        if kind is AssetKind.BLOB:
            blobs = (digest, *blobs)
        else:
            directories = (digest, *directories)
        result = re_pb.ActionResult()
        for blob in blobs:
            result.output_files.add(digest=blob.to_message())
        for directory in directories:
            result.output_directories.add(root_directory_digest=directory.to_message())
        return await first_missing(result, digest.function, self._store)

    async def _fetch(
        self, query: FetchQuery, each: Sequence[Wanted], origins: Origins, seconds: float
    ) -> Fetched:
        errors: list[OriginError] = []
        uri = query.uris[0]
        try:
            async with asyncio.timeout(seconds):
                for one in each:
                    uri = one.uri
                    started = self._clock()
                    try:
                        found = await origins.fetch(one)
                    except OriginError as error:
                        error.uri = uri
                        errors.append(error)
                        continue
                    return await self._keep(query, one, found, started)
        except TimeoutError:
            raise OriginError(
                Reason.DEADLINE_EXCEEDED, f"{uri[:300]}: not fetched in {seconds:g} s", uri=uri
            ) from None
        telling = [error for error in errors if error.reason is not Reason.NOT_FOUND]
        raise (telling or errors)[0]

    async def _keep(self, query: FetchQuery, one: Wanted, found: Found, started: int) -> Fetched:
        reuse = int(self._settings.reuse_seconds * _SECOND)
        qualifiers = dict(without_secrets(query.key.qualifiers)) | dict(found.qualifiers)
        asset = Asset(
            digest=found.digest,
            created_at=started,
            expires_at=None if found.is_pinned else started + reuse,
            qualifiers=tuple(sorted(qualifiers.items())),
        )
        await self._index.put(query.key, [one.uri], asset)
        return Fetched(
            uri=one.uri, digest=asset.digest, qualifiers=asset.qualifiers, expires_at=None
        )


def _not_pushed(query: FetchQuery) -> OriginError:
    return OriginError(Reason.NOT_FOUND, "no such asset has been pushed", uri=query.uris[0])
