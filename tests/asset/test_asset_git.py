"""Trees of commits from a real repository behind `git http-backend`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
import zlib
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from web_origin import GitRepository, WebOrigin

from tests.asset.asset_world import AssetServer, asset_server

GIT = {"resource_type": "application/x-git"}


@pytest.fixture
def repository(web: WebOrigin) -> GitRepository:
    return web.put_repository("project")


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def commit_of(response: Any) -> str | None:
    return {q.name: q.value for q in response.qualifiers}.get("vcs.commit")


async def test_a_commit_is_fetched_as_it_is(assets: AssetServer, repository: GitRepository) -> None:
    repository.path.mkdir(parents=True, exist_ok=True)
    (repository.path / "run.sh").write_text("#!/bin/sh\n")
    (repository.path / "run.sh").chmod(0o755)
    os.symlink("../run.sh", repository.path / "link")
    first = repository.commit(
        {
            "a.txt": b"one\n",
            "deep/er/b.txt": b"two\n",
            "deep/same.txt": b"one\n",
            "empty": b"",
            "n\u00e4me with spaces": b"three",
        }
    )
    repository.commit({"later.txt": b"later"})
    response = await assets.fetch_directory(repository.url, qualifiers={"vcs.commit": first})
    assert await assets.tree(response) == {
        "a.txt": "one\n",
        "deep": "/",
        "deep/er": "/",
        "deep/er/b.txt": "two\n",
        "deep/same.txt": "one\n",
        "empty": "",
        "link": "-> ../run.sh",
        "n\u00e4me with spaces": "three",
        "run.sh*": "#!/bin/sh\n",
    }
    assert (response.uri, commit_of(response)) == (repository.url, first)


async def test_a_tree_in_gitsha1_has_gits_own_names(
    assets: AssetServer, repository: GitRepository
) -> None:
    repository.commit({"file": b"content"})
    response = await assets.fetch_directory(repository.url, qualifiers=GIT, digest_function=10)
    assert response.digest_function == 10
    assert await assets.tree(response) == {"file": "content"}


async def test_a_branch_moves_and_the_default_one_is_heads(
    assets: AssetServer, repository: GitRepository
) -> None:
    first = repository.commit({"file": b"1"})
    repository.git("checkout", "-q", "-b", "side/line")
    second = repository.commit({"file": b"2"})
    repository.git("checkout", "-q", "main")
    branch = {"vcs.branch": "side/line"}
    response = await assets.fetch_directory(repository.url, qualifiers=branch)
    assert (commit_of(response), await assets.tree(response)) == (second, {"file": "2"})
    response = await assets.fetch_directory(repository.url, qualifiers=GIT)
    assert commit_of(response) == first
    repository.git("checkout", "-q", "side/line")
    third = repository.commit({"file": b"3"})
    again = await assets.fetch_directory(repository.url, qualifiers=branch)
    assert commit_of(again) == second
    again = await assets.fetch_directory(
        repository.url, qualifiers=branch, oldest_content_accepted=now()
    )
    assert commit_of(again) == third


async def test_a_commit_must_be_on_the_branch_if_both_are_named(
    assets: AssetServer, repository: GitRepository
) -> None:
    first = repository.commit({"file": b"1"})
    repository.git("branch", "old")
    second = repository.commit({"file": b"2"})
    for branch, commit, code in (
        ("main", first, code_pb2.OK),
        ("old", first, code_pb2.OK),
        ("main", second, code_pb2.OK),
        ("old", second, code_pb2.NOT_FOUND),
    ):
        response = await assets.fetch_directory(
            repository.url, qualifiers={"vcs.branch": branch, "vcs.commit": commit}
        )
        assert response.status.code == code


async def test_what_is_not_in_the_repository_is_not_found(
    assets: AssetServer, web: WebOrigin, repository: GitRepository
) -> None:
    repository.commit({"file": b"1"})
    for uri, qualifiers in (
        (repository.url, {"vcs.branch": "absent"}),
        (repository.url, {"vcs.commit": "0" * 39 + "1"}),
        (repository.url, {**GIT, "directory": "absent"}),
        (repository.url, {**GIT, "directory": "file"}),
        (web.url("/git/absent"), GIT),
        (web.url("/absent.git"), {}),
    ):
        response = await assets.fetch_directory(uri, qualifiers=qualifiers)
        assert response.status.code == code_pb2.NOT_FOUND, (uri, qualifiers)
    empty = web.put_repository("empty")
    response = await assets.fetch_directory(empty.url, qualifiers=GIT)
    assert response.status.code == code_pb2.NOT_FOUND


@pytest.mark.parametrize(
    "qualifiers",
    [
        {"vcs.commit": "HEAD"},
        {"vcs.commit": "abc123"},
        {"vcs.commit": "--upload-pack=touch /tmp/x"},
        {"vcs.branch": "--upload-pack=x"},
        {"vcs.branch": "a b"},
        {"vcs.branch": "a..b"},
        {"vcs.branch": "*"},
        {"vcs.branch": "main", "checksum.sri": "sha256-" + "A" * 43 + "="},
    ],
)
async def test_qualifiers_that_make_no_sense_are_refused(
    assets: AssetServer, repository: GitRepository, qualifiers: dict[str, str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await assets.fetch_directory(repository.url, qualifiers=qualifiers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_repository_is_no_blob(assets: AssetServer, repository: GitRepository) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await assets.fetch_blob(repository.url, qualifiers=GIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    response = await assets.fetch_blob("git+" + repository.url)
    assert response.status.code == code_pb2.NOT_FOUND


async def test_the_scheme_and_the_ending_tell_git_too(assets: AssetServer, web: WebOrigin) -> None:
    repository = web.put_repository("named.git")
    repository.commit({"sub/file": b"1", "other": b"2"})
    for uri in (repository.url, "git+" + repository.url):
        response = await assets.fetch_directory(uri, qualifiers={"directory": "/sub/"})
        assert await assets.tree(response) == {"file": "1"}


async def test_a_submodule_is_an_empty_directory(
    assets: AssetServer, repository: GitRepository
) -> None:
    commit = repository.commit({"file": b"1"})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    repository.git("commit", "-q", "-m", "module")
    response = await assets.fetch_directory(repository.url, qualifiers=GIT)
    assert await assets.tree(response) == {"file": "1", "module": "/"}


async def test_no_attribute_changes_the_content(
    assets: AssetServer, repository: GitRepository
) -> None:
    files = {"file": b"$Id$\n", ".gitattributes": b"file ident export-subst export-ignore\n"}
    repository.commit(files)
    response = await assets.fetch_directory(repository.url, qualifiers=GIT)
    assert await assets.tree(response) == {name: text.decode() for name, text in files.items()}


@pytest.mark.parametrize("name", ["..", "a/../../b", ".", "/abs"])
async def test_a_tree_with_names_that_lead_out_is_refused(
    assets: AssetServer, repository: GitRepository, name: str
) -> None:
    repository.commit({"file": b"1"})
    blob = repository.git("rev-parse", "HEAD:file")
    entry = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tree = write_object(repository, b"tree", entry)
    commit = repository.git("commit-tree", tree, "-m", "evil")
    repository.git("update-ref", "refs/heads/evil", commit)
    response = await assets.fetch_directory(repository.url, qualifiers={"vcs.branch": "evil"})
    assert response.status.code == code_pb2.ABORTED


def write_object(repository: GitRepository, kind: bytes, content: bytes) -> str:
    """An object that git itself would refuse to make."""
    data = kind + b" %d\0" % len(content) + content
    name = hashlib.sha1(data).hexdigest()
    path = repository.path / ".git" / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(data))
    return name


async def test_an_endless_tree_and_a_large_one_are_cut_off(
    tmp_path: Path, repository: GitRepository
) -> None:
    repository.commit({"file": b"x" * 2000})
    blob = repository.git("rev-parse", "HEAD:file")
    tree = write_object(repository, b"tree", b"100644 f\0" + bytes.fromhex(blob))
    for _ in range(30):
        raw = bytes.fromhex(tree)
        tree = write_object(repository, b"tree", b"40000 a\0" + raw + b"40000 b\0" + raw)
    commit = repository.git("commit-tree", tree, "-m", "bomb")
    repository.git("update-ref", "refs/heads/bomb", commit)
    async with asset_server(tmp_path, max_bytes=1000, max_entries=1000, timeout=60) as assets:
        for branch in ("main", "bomb"):
            response = await assets.fetch_directory(
                repository.url, qualifiers={"vcs.branch": branch}
            )
            assert response.status.code == code_pb2.ABORTED, response.status
        assert assets.store.count == 0


async def test_git_goes_to_the_address_that_was_checked(
    assets: AssetServer, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name exists for this process alone: git cannot have looked it up by itself."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == "git.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    repository.commit({"file": b"1"})
    url = repository.url.replace("127.0.0.1", "git.example")
    response = await assets.fetch_directory(url, qualifiers=GIT)
    assert await assets.tree(response) == {"file": "1"}


async def test_a_redirect_is_followed_before_git_starts(
    assets: AssetServer, web: WebOrigin, repository: GitRepository
) -> None:
    repository.commit({"file": b"1"})
    rest = "/info/refs?service=git-upload-pack"
    web.put_redirect("/moved" + rest, repository.url + rest)
    response = await assets.fetch_directory(web.url("/moved"), qualifiers=GIT)
    assert await assets.tree(response) == {"file": "1"}
    # but not once it runs: the second answer to the same question leads elsewhere
    web.put_redirect("/git/project" + rest, web.url("/elsewhere"))
    web.seen.clear()
    response = await assets.fetch_directory(repository.url, qualifiers={"vcs.branch": "main"})
    assert response.status.code == code_pb2.NOT_FOUND
    assert "/elsewhere" in web.paths[1]


async def test_secrets_reach_the_repository_and_no_command_line(
    assets: AssetServer, web: WebOrigin, repository: GitRepository
) -> None:
    repository.commit({"file": b"1"})
    url = repository.url.replace("http://", "http://me:secret@")
    response = await assets.fetch_directory(url, qualifiers={**GIT, "http_header:X-Key": "k"})
    assert await assets.tree(response) == {"file": "1"}
    assert len(web.seen) > 2
    for _, headers in web.seen:
        assert headers["authorization"].startswith("Basic ")
        assert headers["x-key"] == "k"


async def test_the_timeout_ends_git(
    assets: AssetServer, web: WebOrigin, repository: GitRepository
) -> None:
    repository.commit({"file": b"1"})
    web.put_silent("/git/project/git-upload-pack")
    started = time.monotonic()
    response = await assets.fetch_directory(
        repository.url, qualifiers=GIT, timeout=Duration(seconds=2)
    )
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 20
    async with asyncio.timeout(10):
        while list(assets.directory.iterdir()):
            await asyncio.sleep(0.02)


async def test_without_the_program_the_server_says_so(
    tmp_path: Path, repository: GitRepository
) -> None:
    repository.commit({"file": b"1"})
    async with asset_server(tmp_path, git="no-such-program") as assets:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await assets.fetch_directory(repository.url, qualifiers=GIT)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
