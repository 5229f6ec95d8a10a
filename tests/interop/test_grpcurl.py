"""grpcurl, which knows nothing but what our reflection service tells it."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest

from .buildgrid import digest_of
from .conftest import Server
from .grpcurl import REFUSED, Grpcurl, digest_message, in_base64
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

RE = "build.bazel.remote.execution.v2"
CAS = f"{RE}.ContentAddressableStorage"
ASSET = "build.bazel.remote.asset.v1"
STREAM = "google.bytestream.ByteStream"
SERVICES = (
    f"{RE}.ActionCache", f"{RE}.Capabilities", CAS, f"{RE}.Execution", STREAM,
    f"{ASSET}.Fetch", f"{ASSET}.Push", "build.bazel.remote.logstream.v1.LogStreamService",
    "google.longrunning.Operations", "grpc.health.v1.Health",
)  # fmt: skip
INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE = 3, 5, 11
BLOB = b"grpcurl was here"


@pytest.fixture
def grpcurl(tools: Tools, server: Server, tmp_path: Path) -> Grpcurl:
    return Grpcurl(tools=tools, home=tmp_path / "grpcurl", target=server.address)


def upload(grpcurl: Grpcurl, blob: bytes) -> str:
    request = {"digest": digest_message(digest_of(blob)), "data": in_base64(blob)}
    answer = grpcurl.call(f"{CAS}/BatchUpdateBlobs", {"requests": [request]})
    assert answer["responses"][0].get("status", {}) == {}, answer
    return digest_of(blob)


def test_every_service_is_listed_and_described(grpcurl: Grpcurl) -> None:
    listed = grpcurl("list").ok().stdout.split()
    assert set(SERVICES) <= set(listed)
    for service in listed:
        assert f"{service} is a service" in grpcurl("describe", service).ok().stdout
    assert "digest_function" in grpcurl("describe", f"{RE}.FindMissingBlobsRequest").stdout


def test_the_server_is_healthy(grpcurl: Grpcurl) -> None:
    assert grpcurl.call("grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}


def test_capabilities(grpcurl: Grpcurl) -> None:
    answer = grpcurl.call(f"{RE}.Capabilities/GetCapabilities", {"instanceName": "a/b"})
    assert {"SHA256", "BLAKE3"} <= set(answer["cacheCapabilities"]["digestFunctions"])
    assert answer["lowApiVersion"] == {"major": 2}


def test_blobs_in_batches(grpcurl: Grpcurl) -> None:
    present, absent = digest_message(upload(grpcurl, BLOB)), digest_message(digest_of(b"absent"))
    missing = grpcurl.call(f"{CAS}/FindMissingBlobs", {"blobDigests": [present, absent]})
    assert missing == {"missingBlobDigests": [absent]}
    read = grpcurl.call(f"{CAS}/BatchReadBlobs", {"digests": [present, absent]})
    lacking, found = sorted(read["responses"], key=lambda answer: "data" in answer)
    assert base64.b64decode(found["data"]) == BLOB
    assert lacking["status"]["code"] == NOT_FOUND


def test_a_blob_that_is_not_what_it_says_is_refused(grpcurl: Grpcurl) -> None:
    wrong = digest_message(digest_of(b"other bytes here"))
    request = {"requests": [{"digest": wrong, "data": in_base64(BLOB)}]}
    answer = grpcurl.call(f"{CAS}/BatchUpdateBlobs", request)
    assert answer["responses"][0]["status"]["code"] == INVALID_ARGUMENT
    missing = grpcurl.call(f"{CAS}/FindMissingBlobs", {"blobDigests": [wrong]})
    assert missing == {"missingBlobDigests": [wrong]}


def test_a_blob_in_a_stream(grpcurl: Grpcurl) -> None:
    name = f"uploads/{uuid.uuid4()}/blobs/{digest_of(BLOB)}"
    halves = [
        {"resourceName": name, "data": in_base64(BLOB[:7])},
        {"writeOffset": "7", "data": in_base64(BLOB[7:]), "finishWrite": True},
    ]
    assert grpcurl.call(f"{STREAM}/Write", halves) == {"committedSize": str(len(BLOB))}
    read = {"resourceName": f"blobs/{digest_of(BLOB)}", "readOffset": "3", "readLimit": "5"}
    header = (f"{RE}.resource-name: blobs/{digest_of(BLOB)}",)
    answer = grpcurl.call(f"{STREAM}/Read", read, headers=header)
    assert base64.b64decode(answer["data"]) == BLOB[3:8]
    past_the_end = {**read, "readOffset": "100"}
    assert grpcurl.refused(f"{STREAM}/Read", past_the_end, OUT_OF_RANGE)


def test_wrong_requests_are_refused_with_a_reason(grpcurl: Grpcurl) -> None:
    short = {"blobDigests": [{"hash": "abc", "sizeBytes": "1"}]}
    assert "Message: " in grpcurl.refused(f"{CAS}/FindMissingBlobs", short, INVALID_ARGUMENT)
    unknown = {"actionDigest": digest_message(digest_of(b"no such action"))}
    grpcurl.refused(f"{RE}.ActionCache/GetActionResult", unknown, NOT_FOUND)
    grpcurl.refused(f"{RE}.Execution/WaitExecution", {"name": "nobody"}, NOT_FOUND)


def test_an_asset_is_pushed_and_fetched(grpcurl: Grpcurl) -> None:
    for service in ("Fetch/FetchBlob", "Push/PushBlob"):  # How clients look for the service.
        grpcurl.refused(f"{ASSET}.{service}", {}, INVALID_ARGUMENT)
    digest = digest_message(upload(grpcurl, BLOB))
    uris = ["https://example.org/source.tar"]
    asset = {"uris": uris, "qualifiers": [{"name": "checksum", "value": "x"}]}
    grpcurl.call(f"{ASSET}.Push/PushBlob", {**asset, "blobDigest": digest})
    fetched = grpcurl.call(f"{ASSET}.Fetch/FetchBlob", asset)
    assert fetched["blobDigest"] == digest
    assert fetched["uri"] == uris[0]
    unknown = {"uris": ["urn:example:nobody-pushed-this"]}
    assert not_found(grpcurl, unknown)


def not_found(grpcurl: Grpcurl, request: object) -> bool:
    """NOT_FOUND may come as the call's status or in the response (REAPI Asset, FetchBlob)."""
    finished = grpcurl(f"{ASSET}.Fetch/FetchBlob", data=request)
    if finished.status == 0:
        return bool(json.loads(finished.stdout)["status"]["code"] == NOT_FOUND)
    return finished.status == REFUSED + NOT_FOUND
