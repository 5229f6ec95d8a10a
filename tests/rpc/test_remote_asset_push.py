"""What has been pushed under a URI is what a fetch of it finds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.asset.v1 import remote_asset_pb2 as ra_pb
from tests.asset.asset_world import AssetServer, asset_server

URI = "urn:example:asset"
OTHER = "https://example.org/asset"
DETAILS = "grpc-status-details-bin"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AssetServer]:
    """A server that knows what has been pushed, and nothing else."""
    async with asset_server(tmp_path, fetching=False) as server:
        yield server


def at(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.row(115)
@pytest.mark.row(116)
async def test_any_pushed_uri_leads_to_the_blob(server: AssetServer) -> None:
    digest = await server.put(b"content")
    await server.push_blob([URI, OTHER], digest)
    for uris, matched in (([URI], URI), ([OTHER], OTHER), (["urn:unknown", OTHER], OTHER)):
        response = await server.fetch_blob(*uris)
        assert response.status.code == code_pb2.OK
        assert response.uri == matched
        assert response.blob_digest == digest.to_message()
        assert response.digest_function == DigestFunction.SHA256.number
        assert not response.HasField("expires_at")


@pytest.mark.row(115)
async def test_a_directory_is_found_with_everything_in_it_alone(server: AssetServer) -> None:
    file = await server.put(b"in the directory")
    root = await server.put_directory({"file": file})
    await server.push_directory([URI], root)
    response = await server.fetch_directory(URI)
    assert response.root_directory_digest == root.to_message()
    assert (response.uri, response.digest_function) == (URI, 1)
    assert (await server.fetch_blob(URI)).status.code == code_pb2.NOT_FOUND
    server.store.forget(file)
    assert (await server.fetch_directory(URI)).status.code == code_pb2.NOT_FOUND


async def test_a_directory_that_lacks_a_file_cannot_be_pushed(server: AssetServer) -> None:
    root = await server.put_directory({"file": Digest.of(b"never stored", DigestFunction.SHA256)})
    error = await refused(server.push_directory([URI], root))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    error = await refused(server.push_blob([URI], Digest.of(b"nor this", DigestFunction.SHA256)))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_without_a_reference_the_asset_is_not_found(server: AssetServer) -> None:
    digest, blob, inner = [await server.put(data) for data in (b"asset", b"blob", b"inner")]
    root = await server.put_directory({"inner": inner})
    await server.push_blob(
        [URI],
        digest,
        references_blobs=[blob.to_message()],
        references_directories=[root.to_message()],
    )
    assert (await server.fetch_blob(URI)).status.code == code_pb2.OK
    server.store.forget(inner)
    assert (await server.fetch_blob(URI)).status.code == code_pb2.NOT_FOUND
    await server.put(b"inner")
    assert (await server.fetch_blob(URI)).status.code == code_pb2.OK
    server.store.forget(blob)
    assert (await server.fetch_blob(URI)).status.code == code_pb2.NOT_FOUND


@pytest.mark.row(115)
async def test_an_expired_asset_is_gone_and_a_push_can_change_that(server: AssetServer) -> None:
    digest = await server.put(b"content")
    later = at(time.time() + 3600)
    await server.push_blob([URI], digest, expire_at=later)
    assert (await server.fetch_blob(URI)).expires_at == later
    await server.push_blob([URI], digest, expire_at=at(time.time() - 1))
    assert (await server.fetch_blob(URI)).status.code == code_pb2.NOT_FOUND
    await server.push_blob([URI], digest)
    assert (await server.fetch_blob(URI)).status.code == code_pb2.OK


@pytest.mark.row(115)
async def test_older_content_than_accepted_is_not_served(server: AssetServer) -> None:
    digest = await server.put(b"content")
    before = at(time.time() - 60)
    await server.push_blob([URI], digest)
    after = at(time.time() + 60)
    response = await server.fetch_blob(URI, oldest_content_accepted=before)
    assert response.status.code == code_pb2.OK
    response = await server.fetch_blob(URI, oldest_content_accepted=after)
    assert response.status.code == code_pb2.NOT_FOUND
    assert response.uri == URI


async def test_a_later_push_replaces_an_earlier_one(server: AssetServer) -> None:
    for data in (b"first", b"second"):
        await server.push_blob([URI], await server.put(data))
        assert await server.blob(await server.fetch_blob(URI)) == data


async def test_qualifiers_must_be_the_same_in_any_order(server: AssetServer) -> None:
    digest = await server.put(b"content")
    await server.push_blob([URI], digest, {"flavour": "sweet", "colour": "red"})
    response = await server.fetch_blob(URI, qualifiers={"colour": "red", "flavour": "sweet"})
    assert response.blob_digest == digest.to_message()
    assert {q.name: q.value for q in response.qualifiers} == {"flavour": "sweet", "colour": "red"}
    for other in ({}, {"colour": "red"}, {"colour": "red", "flavour": "sour"}):
        response = await server.fetch_blob(URI, qualifiers=other)
        assert response.status.code == code_pb2.NOT_FOUND


@pytest.mark.row(114)
async def test_a_qualifier_that_nobody_knows_is_named(server: AssetServer) -> None:
    await server.push_blob([URI], await server.put(b"content"), {"colour": "red"})
    error = await refused(server.fetch_blob(URI, qualifiers={"shape": "round", "colour": "red"}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = next(value for key, value in error.trailing_metadata() or () if key == DETAILS)
    status = status_pb2.Status.FromString(details)
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("qualifiers.name", '"shape" not supported')
    ]


async def test_instances_and_digest_functions_are_apart(server: AssetServer) -> None:
    blake3 = await server.put(b"content", DigestFunction.BLAKE3)
    await server.push_blob([URI], blake3, digest_function=9, instance_name="one")
    found = await server.fetch_blob(URI, digest_function=9, instance_name="one")
    assert (found.blob_digest, found.digest_function) == (blake3.to_message(), 9)
    for other in ({"digest_function": 9}, {"instance_name": "one"}):
        assert (await server.fetch_blob(URI, **other)).status.code == code_pb2.NOT_FOUND


@pytest.mark.row(112)
@pytest.mark.parametrize("kind", ["Blob", "Directory"])
async def test_arguments_that_make_no_sense_are_refused(server: AssetServer, kind: str) -> None:
    digest = (await server.put(b"content")).to_message()
    field = "blob_digest" if kind == "Blob" else "root_directory_digest"
    twice = [ra_pb.Qualifier(name="a", value="1"), ra_pb.Qualifier(name="a", value="2")]
    fetches: list[dict[str, Any]] = [
        {},
        {"uris": [""]},
        {"uris": [URI], "qualifiers": twice},
        {"uris": [URI], "qualifiers": [ra_pb.Qualifier(value="nameless")]},
        {"uris": [URI], "digest_function": 4},
        {"uris": [URI], "instance_name": "a//b"},
        {"uris": [URI], "oldest_content_accepted": Timestamp(seconds=2**60)},
        {"uris": [URI], "timeout": {"seconds": -1}},
        {"uris": ["u"] * 10_001},
    ]
    pushes: list[dict[str, Any]] = [
        {},
        {"uris": [URI]},
        {field: digest},
        {"uris": [URI], field: digest, "qualifiers": twice},
        {"uris": [URI], field: {"hash": "00", "size_bytes": 1}},
        {"uris": [URI], field: digest, "expire_at": Timestamp(nanos=-1)},
        {"uris": [URI], field: digest, "references_blobs": [{"hash": "zz"}]},
    ]
    for verb, stub, requests in (("Fetch", server.fetch, fetches), ("Push", server.push, pushes)):
        for arguments in requests:
            request = getattr(ra_pb, f"{verb}{kind}Request")(**arguments)
            error = await refused(getattr(stub, f"{verb}{kind}")(request))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, arguments
            assert error.details()


async def test_assets_outlive_a_restart(tmp_path: Path) -> None:
    async with asset_server(tmp_path, fetching=False) as server:
        digest = await server.put(b"content")
        await server.push_blob([URI], digest, {"colour": "red"})
    async with asset_server(tmp_path, fetching=False) as server:
        await server.put(b"content")
        response = await server.fetch_blob(URI, qualifiers={"colour": "red"})
        assert response.blob_digest == digest.to_message()
