"""Trees of git commits, fetched over http(s) by the git program.

No work tree is ever made: the commit's objects are read out as they are, without filters, line
ending conversion, submodules or hooks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from remote_apis.errors import InvalidRequest
from server.asset.addresses import AddressPolicy
from server.asset.errors import OriginError, Reason
from server.asset.git_listing import layout, parse_listing, to_entries
from server.asset.git_program import Finished, GitProgram
from server.asset.http import HttpOrigin, HttpRequest
from server.asset.settings import AssetSettings
from server.asset.trees import TreeEntry
from server.asset.urls import Url, parse_url

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_SHA1_LENGTH = 40
_INFO = "/info/refs?service=git-upload-pack"
_NO_SUCH_REF = 2
_MAX_LINE = 512
"""Bytes that git says about a file, on average at most."""
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitQuery:
    """A commit, a branch, a commit that must be on a branch, or neither: the default branch."""

    branch: str = ""
    commit: str = ""

    def check(self) -> None:
        """Raises InvalidRequest."""
        if self.commit and not _COMMIT.fullmatch(self.commit):
            raise InvalidRequest(
                f"vcs.commit {self.commit[:160]!r} is no full commit in lowercase hexadecimal"
            )
        branch = self.branch
        if branch and (
            branch.startswith(("-", "/"))
            or branch.endswith(("/", ".", ".lock"))
            or ".." in branch
            or "@{" in branch
            or not branch.isprintable()
            or any(character in " ~^:?*[\\" for character in branch)
        ):
            raise InvalidRequest(f"vcs.branch {branch[:160]!r} is not the name of a branch")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTree:
    """A commit's files; their bytes are in the file `content`."""

    commit: str
    entries: Sequence[TreeEntry]
    content: Path


class GitOrigin:
    """Fetches commits. The program must be git 2.37 or newer: it is told what hosts resolve to."""

    def __init__(self, *, http: HttpOrigin, policy: AddressPolicy, settings: AssetSettings) -> None:
        self._http = http
        self._policy = policy
        self._settings = settings

    async def fetch(self, request: HttpRequest, query: GitQuery, scratch: Path) -> GitTree:
        """Fetch into an empty directory. Raises OriginError, Unavailable without the program."""
        base = str(request.url).rstrip("/")
        probe = HttpRequest(url=parse_url(base + _INFO), headers=_headers_of(request))
        found = await self._http.probe(probe)
        url = str(found.url)
        if not url.endswith(_INFO):
            raise OriginError(Reason.NOT_FOUND, f"{base} leads to no git repository")
        addresses = await asyncio.to_thread(self._policy.resolve, found.url.host, found.url.port)
        git = GitProgram(
            program=self._settings.git,
            directory=scratch,
            pin=_pin(found.url, [address.text for address in addresses]),
            headers=found.headers,
        )
        await git.check_version()
        repository = _Repository(settings=self._settings, url=url.removesuffix(_INFO), git=git)
        commit = await repository.fetch(query)
        return await repository.read(commit)


def _headers_of(request: HttpRequest) -> Mapping[str, str]:
    if request.url.authorization is None:
        return request.headers
    return {"authorization": request.url.authorization, **request.headers}


def _pin(url: Url, addresses: Sequence[str]) -> str | None:
    """For http.curloptResolve; None when the host is an address already."""
    if ":" in url.host or url.host.replace(".", "").isdecimal():
        return None
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    return f"{url.host}:{url.port}:{','.join(hosts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repository:
    settings: AssetSettings
    url: str
    git: GitProgram

    async def fetch(self, query: GitQuery) -> str:
        """Fetch what the query needs; the commit."""
        reference = f"refs/heads/{query.branch}" if query.branch else "HEAD"
        commit = query.commit or await self._tip(reference)
        object_format = "sha1" if len(commit) == _SHA1_LENGTH else "sha256"
        self._check(
            await self.git.run("init", "--quiet", "--bare", f"--object-format={object_format}")
        )
        if query.commit and query.branch:
            await self._fetch_refs(f"+{reference}:{reference}")
            await self._check_has(commit)
            if (await self.git.run("merge-base", "--is-ancestor", commit, reference)).status:
                raise OriginError(
                    Reason.NOT_FOUND, f"{self.url}: {commit} is not on branch {query.branch!r}"
                )
            return commit
        shallow = await self.git.run(
            *_FETCH, "--depth=1", "--", self.url, commit, limit=self.settings.max_bytes
        )
        if shallow.status:
            # not every server hands out a commit by its name alone
            await self._fetch_refs("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        await self._check_has(commit)
        return commit

    async def read(self, commit: str) -> GitTree:
        """List the commit's tree and read out its blobs."""
        # a few objects can be an endless tree: what git says about it is bounded as well
        listing = await self.git.run(
            *("ls-tree", "-r", "-z", "--full-tree", "-l", commit),
            limit=self.settings.max_entries * _MAX_LINE,
        )
        self._check(listing)
        lines = parse_listing(listing.output)
        if len(lines) > self.settings.max_entries:
            raise OriginError(Reason.ABORTED, f"{self.url}: too many files in {commit}")
        offsets, total = layout(lines)
        if total > self.settings.max_bytes:
            raise OriginError(
                Reason.ABORTED,
                f"{self.url}: the files of {commit} are larger than the "
                f"{self.settings.max_bytes} bytes that are fetched",
            )
        names, content = self.git.directory / "asset-names", self.git.directory / "asset-content"
        names.write_bytes(b"".join(name.encode() + b"\n" for name in offsets))
        finished = await self.git.run(
            "cat-file", "--batch", "--buffer", read=names, write=content, limit=total
        )
        self._check(finished)
        if content.stat().st_size != total:
            raise OriginError(Reason.ABORTED, f"{self.url}: {commit} is incomplete")
        return GitTree(commit=commit, entries=to_entries(lines, offsets, content), content=content)

    async def _tip(self, reference: str) -> str:
        finished = await self.git.run("ls-remote", "--exit-code", "--", self.url, reference)
        if finished.status != _NO_SUCH_REF:
            self._check(finished)
        for line in finished.output.decode(errors="replace").splitlines():
            commit, _, name = line.partition("\t")
            if name == reference and _COMMIT.fullmatch(commit):
                return commit
        raise OriginError(Reason.NOT_FOUND, f"{self.url} has no {reference}")

    async def _fetch_refs(self, *refspecs: str) -> None:
        finished = await self.git.run(
            *_FETCH, "--", self.url, *refspecs, limit=self.settings.max_bytes
        )
        self._check(finished)

    async def _check_has(self, commit: str) -> None:
        if (await self.git.run("cat-file", "-e", commit + "^{commit}")).status:
            raise OriginError(Reason.NOT_FOUND, f"{self.url} has no commit {commit}")

    def _check(self, finished: Finished) -> None:
        if finished.status:
            raise OriginError(Reason.ABORTED, f"{self.url}: {finished.reason}")
