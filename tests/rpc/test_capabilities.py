"""GetCapabilities says what there is."""

import os
from typing import Any

import grpc
import pytest

from remote_apis.blob_files import DIRECTORY_HEADER
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.rpc.capabilities import is_on_this_machine


async def capabilities(storage: Any, instance: str = "") -> re_pb.ServerCapabilities:
    request = re_pb.GetCapabilitiesRequest(instance_name=instance)
    response: re_pb.ServerCapabilities = await storage.capabilities.GetCapabilities(request)
    return response


@pytest.mark.row(105)
async def test_versions(storage: Any) -> None:
    found = await capabilities(storage)
    low, high = found.low_api_version, found.high_api_version
    assert (low.major, low.minor, low.patch, low.prerelease) == (2, 0, 0, "")
    assert (high.major, high.minor, high.patch, high.prerelease) == (2, 12, 0, "")


@pytest.mark.row(104)
async def test_digest_functions(serve: Any) -> None:
    found = await capabilities(await serve())
    everything = {function.number for function in DigestFunction}
    assert set(found.cache_capabilities.digest_functions) == everything
    execution = found.execution_capabilities
    assert execution.exec_enabled
    assert execution.digest_function != 0
    assert execution.digest_function in execution.digest_functions
    assert 0 not in everything


@pytest.mark.row(15)
@pytest.mark.row(20)
@pytest.mark.row(21)
@pytest.mark.row(109)
async def test_limits_and_compressors(serve: Any) -> None:
    cache = (await capabilities(await serve(max_blob_bytes=12345))).cache_capabilities
    assert 1024 * 1024 <= cache.max_batch_total_size_bytes < 4 * 1024 * 1024
    assert cache.max_cas_blob_size_bytes == 12345
    assert list(cache.supported_compressors) == [1, 2]
    assert list(cache.supported_batch_update_compressors) == [1, 2]


@pytest.mark.row(60)
@pytest.mark.row(61)
@pytest.mark.row(62)
async def test_chunking(storage: Any) -> None:
    cache = (await capabilities(storage)).cache_capabilities
    assert cache.split_blob_support
    assert cache.splice_blob_support
    assert cache.fast_cdc_2020_params.avg_chunk_size_bytes == 4096
    assert cache.rep_max_cdc_params.min_chunk_size_bytes == 4096
    assert cache.rep_max_cdc_params.horizon_size_bytes == 8 * 4096


@pytest.mark.row(106)
async def test_priorities(storage: Any) -> None:
    found = await capabilities(storage)
    ranges = [
        *found.cache_capabilities.cache_priority_capabilities.priorities,
        *found.execution_capabilities.execution_priority_capabilities.priorities,
    ]
    assert all(each.min_priority <= 0 <= each.max_priority for each in ranges)
    assert ranges


@pytest.mark.row(65)
@pytest.mark.parametrize("enabled", [True, False])
async def test_whether_clients_may_update(serve: Any, enabled: bool) -> None:
    cache = (await capabilities(await serve(update_enabled=enabled))).cache_capabilities
    assert cache.action_cache_update_capabilities.update_enabled is enabled


@pytest.mark.row(26)
async def test_instances(serve: Any) -> None:
    storage = await serve(instances=frozenset({"a/b"}))
    assert (await capabilities(storage, "a/b")).HasField("cache_capabilities")
    for name in ("", "blobs", "a//b"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await capabilities(storage, name)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_clients_on_this_machine_are_told_where_the_blobs_are(storage: Any) -> None:
    call = storage.capabilities.GetCapabilities(re_pb.GetCapabilitiesRequest())
    headers = dict(await call.initial_metadata())
    assert headers[DIRECTORY_HEADER] == os.fsencode(storage.path / "blobs")


@pytest.mark.parametrize(
    ("peer", "is_here"),
    [
        ("unix:", True),
        ("unix:/run/distbuild.sock", True),
        ("ipv4:127.0.0.1:4711", True),
        ("ipv4:127.9.9.9:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::1]:4711", True),
        ("ipv4:10.127.0.1:4711", False),
        ("ipv4:12.7.0.1:4711", False),
        ("ipv6:%5Bfe80::1%5D:4711", False),
        ("ipv6:%5B::10%5D:4711", False),
        ("", False),
    ],
)
def test_who_calls_from_this_machine(peer: str, is_here: bool) -> None:
    assert is_on_this_machine(peer) is is_here


@pytest.mark.row(107)
async def test_request_metadata_is_optional_on_any_call(storage: Any) -> None:
    metadata = re_pb.RequestMetadata(tool_invocation_id="x", action_id="y").SerializeToString()
    key = "build.bazel.remote.execution.v2.requestmetadata-bin"
    for value in (metadata, b"\xff not a message"):
        await storage.capabilities.GetCapabilities(
            re_pb.GetCapabilitiesRequest(), metadata=((key, value),)
        )
