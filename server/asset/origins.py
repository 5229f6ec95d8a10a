"""From a URI and qualifiers to content in the store, by way of the network."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from server.asset import qualifiers as names
from server.asset.addresses import AddressPolicy
from server.asset.archives import unpack
from server.asset.checksums import Checksum, checksum_of
from server.asset.errors import OriginError, Reason
from server.asset.git import GitOrigin, GitQuery
from server.asset.http import HttpOrigin, HttpRequest
from server.asset.index import AssetKind, Qualifiers
from server.asset.settings import AssetSettings
from server.asset.trees import below, store_tree
from server.asset.urls import parse_url
from server.blobstore.interface import CHUNK_SIZE, BlobStore

_GIT_PREFIX = "git+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an origin had. `qualifiers` hold for it besides those asked for.

    `is_pinned`: no other content could have been found.
    """

    digest: Digest
    qualifiers: Qualifiers = ()
    is_pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One URI of a fetch, with what its qualifiers come to."""

    kind: AssetKind
    uri: str
    headers: Mapping[str, str]
    checksum: Checksum | None
    git: GitQuery | None
    directory: str
    function: DigestFunction


def wanted(
    kind: AssetKind, function: DigestFunction, uris: Sequence[str], qualifiers: Qualifiers
) -> list[Wanted]:
    """What is wanted of each URI. Raises InvalidRequest for qualifiers that make no sense."""
    values = dict(qualifiers)
    checksum = checksum_of(values)
    query = GitQuery(branch=values.get(names.BRANCH, ""), commit=values.get(names.COMMIT, ""))
    query.check()
    is_git = values.get(names.RESOURCE_TYPE) in names.GIT_TYPES or query != GitQuery()
    if is_git and kind is AssetKind.BLOB:
        raise InvalidRequest("a git repository can be fetched with FetchDirectory alone")
    if is_git and checksum is not None:
        raise InvalidRequest("a git repository has no checksum.sri; name a vcs.commit")
    return [
        Wanted(
            kind=kind,
            uri=uri,
            headers=names.headers_for(qualifiers, uris, number),
            checksum=checksum,
            git=query if is_git or (kind is AssetKind.DIRECTORY and _is_git(uri)) else None,
            directory=values.get(names.DIRECTORY, "").strip("/"),
            function=function,
        )
        for number, uri in enumerate(uris)
    ]


def _is_git(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme.startswith(_GIT_PREFIX) or parts.path.endswith(".git")


class Origins:
    """Fetches into a store. `directory` holds what is under way; what is left there is removed."""

    def __init__(self, *, store: BlobStore, directory: Path, settings: AssetSettings) -> None:
        self._store = store
        self._directory = directory
        self._settings = settings
        policy = AddressPolicy(allow_private=settings.allow_private_addresses)
        self._http = HttpOrigin(
            policy=policy, max_bytes=settings.max_bytes, threads=settings.max_concurrent
        )
        self._git = GitOrigin(http=self._http, policy=policy, settings=settings)
        self._places = asyncio.Semaphore(settings.max_concurrent)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)

    def close(self) -> None:
        """Take no more."""
        self._http.close()

    async def fetch(self, wanted: Wanted) -> Found:
        """Fetch one URI. Raises OriginError, InvalidRequest, OutOfSpace, Unavailable.

        Whatever has been fetched partly is gone when it ends, cancelled or not.
        """
        async with self._places, self._scratch() as scratch:
            if wanted.git is not None:
                return await self._fetch_git(wanted, wanted.git, scratch)
            request = HttpRequest(url=parse_url(wanted.uri), headers=wanted.headers)
            file = scratch / "download"
            await self._http.download(request, file)
            digest = await asyncio.to_thread(_checked_digest, file, wanted)
            if wanted.kind is AssetKind.BLOB:
                await self._store.write(digest, _chunks(file))
            else:
                digest = await self._unpacked(wanted, file, scratch)
        return Found(digest=digest, is_pinned=wanted.checksum is not None)

    async def _unpacked(self, wanted: Wanted, file: Path, scratch: Path) -> Digest:
        unpacking = partial(
            unpack,
            file,
            scratch,
            max_bytes=self._settings.max_bytes,
            max_entries=self._settings.max_entries,
        )
        entries, content = await asyncio.to_thread(unpacking)
        if wanted.directory:
            entries = below(entries, wanted.directory)
        return await store_tree(entries, content, wanted.function, self._store)

    async def _fetch_git(self, wanted: Wanted, query: GitQuery, scratch: Path) -> Found:
        if wanted.checksum is not None:
            raise OriginError(
                Reason.ABORTED, f"{wanted.uri[:300]} is a git repository and has no checksum.sri"
            )
        url = parse_url(wanted.uri.removeprefix(_GIT_PREFIX))
        request = HttpRequest(url=url, headers=wanted.headers)
        tree = await self._git.fetch(request, query, scratch)
        entries = below(tree.entries, wanted.directory) if wanted.directory else tree.entries
        digest = await store_tree(entries, tree.content, wanted.function, self._store)
        return Found(
            digest=digest,
            qualifiers=((names.COMMIT, tree.commit),),
            is_pinned=bool(query.commit),
        )

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        path = Path(tempfile.mkdtemp(dir=self._directory))
        try:
            yield path
        finally:
            removal = asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            await asyncio.shield(removal)


def _checked_digest(file: Path, wanted: Wanted) -> Digest:
    size = file.stat().st_size
    hasher = wanted.function.hasher(size)
    check = None if wanted.checksum is None else wanted.checksum.hasher()
    with file.open("rb") as stream:
        while data := stream.read(CHUNK_SIZE):
            hasher.update(data)
            if check is not None:
                check.update(data)
    if wanted.checksum is not None and check is not None:
        actual = check.hexdigest()
        if actual not in wanted.checksum.hashes:
            raise OriginError(
                Reason.ABORTED,
                f"{wanted.uri[:300]}: its {wanted.checksum.algorithm} hash is {actual}, "
                "not what checksum.sri says",
            )
    return Digest(wanted.function, hasher.hexdigest(), size)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as stream:
        while data := stream.read(CHUNK_SIZE):
            yield data
