"""What is believed of workers' results, and what is cached of them."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, status_pb2

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import Unavailable
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey
from server.actioncache.memory import MemoryActionCache
from server.blobstore.interface import write_all
from server.blobstore.memory import MemoryBlobStore
from server.rpc.execution_results import ResultRecorder
from server.scheduler.ports import Outcome
from server.scheduler.values import Failure

ACTION = Digest.of(b"action", DigestFunction.SHA256)
KEY = ActionKey("main", ACTION)
BLOB = Digest.of(b"output", DigestFunction.SHA256)
WITH_OUTPUT = re_pb.ActionResult(
    output_files=[re_pb.OutputFile(path="out", digest=BLOB.to_message())]
)


def outcome(response: re_pb.ExecuteResponse | bytes, *, do_not_cache: bool = False) -> Outcome:
    data = response if isinstance(response, bytes) else response.SerializeToString()
    return Outcome(
        instance="main",
        digest=ACTION,
        do_not_cache=do_not_cache,
        worker="w1",
        queued_at=1_800_000_000_000_001_000,
        response=data,
    )


async def test_a_good_result_is_cached_and_completed() -> None:
    store, cache = MemoryBlobStore(), MemoryActionCache()
    await write_all(store, BLOB, b"output")
    given = await ResultRecorder(store, cache)(
        outcome(re_pb.ExecuteResponse(result=WITH_OUTPUT, cached_result=True))
    )
    assert isinstance(given, bytes)
    response = re_pb.ExecuteResponse.FromString(given)
    assert not response.cached_result
    metadata = response.result.execution_metadata
    assert metadata.worker == "w1"
    assert metadata.queued_timestamp.ToNanoseconds() == 1_800_000_000_000_001_000
    assert await cache.get(KEY) == response.result


@pytest.mark.row(81)
@pytest.mark.row(82)
@pytest.mark.parametrize(
    ("response", "do_not_cache"),
    [
        (re_pb.ExecuteResponse(result=re_pb.ActionResult()), True),
        (re_pb.ExecuteResponse(result=re_pb.ActionResult(exit_code=1)), False),
        (re_pb.ExecuteResponse(status=status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED)), False),
        (
            re_pb.ExecuteResponse(
                status=status_pb2.Status(code=code_pb2.FAILED_PRECONDITION),
                result=re_pb.ActionResult(),
            ),
            False,
        ),
    ],
)
async def test_what_may_not_be_cached_is_not(
    response: re_pb.ExecuteResponse, do_not_cache: bool
) -> None:
    cache = MemoryActionCache()
    given = await ResultRecorder(MemoryBlobStore(), cache)(
        outcome(response, do_not_cache=do_not_cache)
    )
    assert isinstance(given, bytes)
    assert re_pb.ExecuteResponse.FromString(given).status == response.status
    assert await cache.get(KEY) is None


async def test_a_result_without_its_blobs_is_refused() -> None:
    cache = MemoryActionCache()
    given = await ResultRecorder(MemoryBlobStore(), cache)(
        outcome(re_pb.ExecuteResponse(result=WITH_OUTPUT))
    )
    assert isinstance(given, Failure)
    assert given.code == code_pb2.DATA_LOSS
    assert "w1" in given.message
    assert BLOB.hash in given.message
    assert await cache.get(KEY) is None


async def test_a_failure_with_an_incomplete_result_is_given_out_without_it() -> None:
    late = status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED)
    given = await ResultRecorder(MemoryBlobStore(), MemoryActionCache())(
        outcome(re_pb.ExecuteResponse(status=late, result=WITH_OUTPUT))
    )
    assert isinstance(given, bytes)
    response = re_pb.ExecuteResponse.FromString(given)
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED
    assert not response.HasField("result")


@pytest.mark.parametrize(
    "response",
    [
        b"\xff\xff",
        re_pb.ExecuteResponse(),
        re_pb.ExecuteResponse(
            result=re_pb.ActionResult(stdout_digest=re_pb.Digest(hash="zz", size_bytes=1))
        ),
        re_pb.ExecuteResponse(
            result=re_pb.ActionResult(output_directories=[re_pb.OutputDirectory(path="a")])
        ),
    ],
)
async def test_nonsense_is_refused(response: re_pb.ExecuteResponse | bytes) -> None:
    given = await ResultRecorder(MemoryBlobStore(), MemoryActionCache())(outcome(response))
    assert isinstance(given, Failure)
    assert given.code == code_pb2.INTERNAL


async def test_a_cache_that_is_down_does_not_fail_the_build() -> None:
    class DeadCache(MemoryActionCache):
        async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
            raise Unavailable("the database is locked")

    given = await ResultRecorder(MemoryBlobStore(), DeadCache())(
        outcome(re_pb.ExecuteResponse(result=re_pb.ActionResult()))
    )
    assert isinstance(given, bytes)
