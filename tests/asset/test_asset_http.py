"""Blobs from a real web server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from web_origin import WebOrigin, web_origin

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from tests.asset.asset_world import AssetServer, asset_server


def sri(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    hash_ = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    return {"checksum.sri": f"{algorithm}-{hash_}"}


@pytest.mark.row(116)
@pytest.mark.parametrize("function", list(DigestFunction), ids=lambda function: function.label)
async def test_a_blob_is_stored_under_the_digest_function_asked_for(
    assets: AssetServer, web: WebOrigin, function: DigestFunction
) -> None:
    data = bytes(range(256)) * 9000
    url = web.put("/file", data)
    response = await assets.fetch_blob(url, digest_function=function.number)
    assert response.blob_digest == Digest.of(data, function).to_message()
    assert (response.digest_function, response.uri) == (function.number, url)
    assert await assets.blob(response) == data
    assert not list(assets.directory.iterdir())


@pytest.mark.row(115)
async def test_what_was_fetched_is_reused_until_it_is_too_old_or_gone(
    assets: AssetServer, web: WebOrigin
) -> None:
    url = web.put("/file", b"first")
    await assets.fetch_blob(url)
    web.put("/file", b"second")
    assert await assets.blob(await assets.fetch_blob(url)) == b"first"
    assert web.paths == ["/file"]
    now = Timestamp()
    now.GetCurrentTime()
    response = await assets.fetch_blob(url, oldest_content_accepted=now)
    assert await assets.blob(response) == b"second"
    assets.store.forget(Digest.of(b"second", DigestFunction.SHA256))
    assert await assets.blob(await assets.fetch_blob(url)) == b"second"
    assert web.paths == ["/file"] * 3


async def test_content_without_a_checksum_is_not_reused_for_long(
    tmp_path: Path, web: WebOrigin
) -> None:
    async with asset_server(tmp_path, reuse_seconds=0) as assets:
        url = web.put("/file", b"first")
        for qualifiers in ({}, sri(b"first")):
            for _ in range(2):
                await assets.fetch_blob(url, qualifiers=qualifiers)
        assert web.paths == ["/file"] * 3


async def test_pushed_content_goes_before_the_origin(assets: AssetServer, web: WebOrigin) -> None:
    url = web.put("/file", b"of the origin")
    await assets.push_blob([url], await assets.put(b"pushed"))
    assert await assets.blob(await assets.fetch_blob(url)) == b"pushed"
    assert web.paths == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
async def test_the_checksum_decides(assets: AssetServer, web: WebOrigin, algorithm: str) -> None:
    url = web.put("/file", b"good")
    good, bad = sri(b"good", algorithm), sri(b"bad", algorithm)
    response = await assets.fetch_blob(url, qualifiers=bad)
    assert (response.status.code, response.uri) == (code_pb2.ABORTED, url)
    assert assets.store.count == 0
    assert await assets.blob(await assets.fetch_blob(url, qualifiers=good)) == b"good"
    # the strongest algorithm counts
    both = sri(b"good", "sha1")["checksum.sri"] + " " + bad["checksum.sri"]
    response = await assets.fetch_blob(url, qualifiers={"checksum.sri": both})
    assert response.status.code == code_pb2.ABORTED


@pytest.mark.parametrize("text", ["", "sha256", "md9-AAAA", "sha256-!!", "sha256-AAAA"])
async def test_a_malformed_checksum_is_refused(
    assets: AssetServer, web: WebOrigin, text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await assets.fetch_blob(web.url("/file"), qualifiers={"checksum.sri": text})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert web.paths == []


@pytest.mark.row(113)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, code_pb2.NOT_FOUND),
        (410, code_pb2.NOT_FOUND),
        (401, code_pb2.PERMISSION_DENIED),
        (403, code_pb2.PERMISSION_DENIED),
        (504, code_pb2.DEADLINE_EXCEEDED),
        (500, code_pb2.ABORTED),
        (204, code_pb2.ABORTED),
    ],
)
async def test_what_the_origin_says_goes_into_the_status(
    assets: AssetServer, web: WebOrigin, status: int, code: int
) -> None:
    url = web.put_status("/file", status)
    response = await assets.fetch_blob(url)
    assert (response.status.code, response.uri) == (code, url)
    assert str(status) in response.status.message
    assert not response.HasField("blob_digest")


@pytest.mark.row(113)
@pytest.mark.parametrize(
    "uri",
    ["file:///etc/passwd", "ftp://example.org/x", "ssh://h/x", "http://", "http://[::1", "nothing",
     "http://a b/", "http://h\\x/", "http://host:99999/", "http://no-such-host.invalid/x"],
)  # fmt: skip
async def test_a_uri_that_leads_nowhere_is_not_found(assets: AssetServer, uri: str) -> None:
    response = await assets.fetch_blob(uri)
    assert (response.status.code, response.uri) == (code_pb2.NOT_FOUND, uri)


async def test_the_uris_are_tried_in_their_order(assets: AssetServer, web: WebOrigin) -> None:
    missing, wrong = web.url("/missing"), web.put("/wrong", b"wrong")
    right, unasked = web.put("/right", b"right"), web.put("/unasked", b"right")
    uris = [missing, wrong, right, unasked]
    response = await assets.fetch_blob(*uris, qualifiers=sri(b"right"))
    assert response.uri == right
    assert web.paths == ["/missing", "/wrong", "/right"]
    response = await assets.fetch_blob(missing, wrong, qualifiers=sri(b"nobody has this"))
    assert (response.status.code, response.uri) == (code_pb2.ABORTED, wrong)


@pytest.mark.row(113)
async def test_the_timeout_of_the_request_ends_a_slow_download(
    assets: AssetServer, web: WebOrigin
) -> None:
    url = web.put_slow("/slow")
    started = time.monotonic()
    response = await assets.fetch_blob(url, timeout=Duration(nanos=400_000_000))
    assert (response.status.code, response.uri) == (code_pb2.DEADLINE_EXCEEDED, url)
    assert time.monotonic() - started < 10
    async with asyncio.timeout(10):
        while list(assets.directory.iterdir()):
            await asyncio.sleep(0.02)


async def test_the_server_has_a_timeout_of_its_own(tmp_path: Path, web: WebOrigin) -> None:
    async with asset_server(tmp_path, timeout=0.3) as assets:
        response = await assets.fetch_blob(web.put_slow("/slow"), timeout=Duration(seconds=3600))
        assert response.status.code == code_pb2.DEADLINE_EXCEEDED


async def test_too_large_is_too_large_whether_announced_or_not(
    tmp_path: Path, web: WebOrigin
) -> None:
    async with asset_server(tmp_path, max_bytes=100_000) as assets:
        for url in (web.put("/large", bytes(100_001)), web.put_endless("/endless")):
            response = await assets.fetch_blob(url)
            assert response.status.code == code_pb2.ABORTED
            assert "100000" in response.status.message
        assert assets.store.count == 0
        response = await assets.fetch_blob(web.put("/fits", bytes(100_000)))
        assert response.status.code == code_pb2.OK


async def test_a_cut_off_download_is_no_content(assets: AssetServer, web: WebOrigin) -> None:
    url = web.put("/cut", b"the beginning", headers={"Content-Length": "100"})
    response = await assets.fetch_blob(url)
    assert response.status.code == code_pb2.ABORTED
    assert assets.store.count == 0


async def test_redirects_are_followed_but_not_for_ever(assets: AssetServer, web: WebOrigin) -> None:
    web.put("/deep/there", b"found")
    web.put_redirect("/deep/second", "there", 307)
    url = web.put_redirect("/first", web.url("/deep/second"), 301)
    response = await assets.fetch_blob(url)
    assert (await assets.blob(response), response.uri) == (b"found", url)
    response = await assets.fetch_blob(web.put_redirect("/loop", "/loop"))
    assert response.status.code == code_pb2.ABORTED
    response = await assets.fetch_blob(web.put_redirect("/file", "file:///etc/passwd"))
    assert response.status.code == code_pb2.NOT_FOUND


async def test_headers_go_where_they_are_meant_to_and_nowhere_else(
    assets: AssetServer, web: WebOrigin
) -> None:
    with web_origin() as other:
        web.put_redirect("/file", other.url("/file"))
        other.put("/file", b"content")
        urls = [web.url("/absent"), web.url("/file")]
        qualifiers = {
            "http_header:X-For-All": "all",
            "http_header_url:1:X-Second": "second",
            "bazel.auth_headers": json.dumps({urls[1]: {"Authorization": "Bearer x"}}),
            "bazel.canonical_id": "some id",
            "resource_type": "application/octet-stream",
        }
        response = await assets.fetch_blob(*urls, qualifiers=qualifiers)
        assert await assets.blob(response) == b"content"
        assert {q.name for q in response.qualifiers} == {"bazel.canonical_id", "resource_type"}
        first, second = (headers for _, headers in web.seen)
        assert first["x-for-all"] == second["x-for-all"] == "all"
        assert (first.get("x-second"), second["x-second"]) == (None, "second")
        assert (first.get("authorization"), second["authorization"]) == (None, "Bearer x")
        elsewhere = other.seen[0][1]
        assert not {"x-for-all", "x-second", "authorization"} & set(elsewhere)


async def test_user_and_password_of_the_uri_are_sent(assets: AssetServer, web: WebOrigin) -> None:
    url = web.put("/file", b"content").replace("http://", "http://me:s%20crt@")
    assert await assets.blob(await assets.fetch_blob(url)) == b"content"
    expected = "Basic " + base64.b64encode(b"me:s crt").decode()
    assert web.seen[0][1]["authorization"] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_header:Host", "elsewhere"),
        ("http_header:Transfer-Encoding", "chunked"),
        ("http_header:X-Bad", "a\r\nX-Injected: b"),
        ("http_header:bad name", "a"),
        ("http_header_url:7:X-Bad", "no such URI"),
        ("http_header_url:X-Bad", "no number"),
        (f"http_header_url:{'9' * 5000}:X-Bad", "no such number"),
        ("http_header:X-Bad", "\0"),
        ("bazel.auth_headers", "[1]"),
        ("bazel.auth_headers", '{"URL": {"X-Bad": "\\ud800"}}'),
        ("bazel.auth_headers", "{"),
    ],
)
async def test_headers_that_may_not_be_set_are_refused(
    assets: AssetServer, web: WebOrigin, name: str, value: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        url = web.put("/file", b"content")
        await assets.fetch_blob(url, qualifiers={name: value.replace("URL", url)})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert web.paths == []


async def test_a_server_that_fetches_nothing_says_so(tmp_path: Path, web: WebOrigin) -> None:
    async with asset_server(tmp_path, fetching=False) as assets:
        response = await assets.fetch_blob(web.put("/file", b"content"))
        assert response.status.code == code_pb2.NOT_FOUND
        assert web.paths == []


async def test_a_connection_that_is_refused_may_work_later(assets: AssetServer) -> None:
    with web_origin() as gone:
        url = gone.url("/file")
    response = await assets.fetch_blob(url)
    assert (response.status.code, response.uri) == (code_pb2.ABORTED, url)
