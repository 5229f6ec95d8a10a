"""Errors become statuses in one table, and handlers' errors reach clients through it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from remote_apis import errors
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.google.bytestream import bytestream_pb2 as bs_pb
from remote_apis.stubs.google.bytestream import bytestream_pb2_grpc as bs_grpc
from server.rpc.handlers import StatusHandlers
from server.rpc.status import status_of

DIGEST = Digest.of(b"data", DigestFunction.SHA256)
TREE = Digest.of(b"data", DigestFunction.SHA256TREE)
TABLE = [
    (errors.InvalidRequest("m"), code_pb2.INVALID_ARGUMENT),
    (errors.InvalidFields("m", [("a.b", "why")]), code_pb2.INVALID_ARGUMENT),
    (errors.DigestMismatch("m"), code_pb2.INVALID_ARGUMENT),
    (errors.BlobNotFound(DIGEST), code_pb2.NOT_FOUND),
    (errors.NotFound("m"), code_pb2.NOT_FOUND),
    (errors.OffsetOutOfRange("m"), code_pb2.OUT_OF_RANGE),
    (errors.FailedPrecondition("m"), code_pb2.FAILED_PRECONDITION),
    (errors.MissingBlobs([DIGEST]), code_pb2.FAILED_PRECONDITION),
    (errors.OutOfSpace("m"), code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unavailable("m"), code_pb2.UNAVAILABLE),
    (errors.PermissionDenied("m"), code_pb2.PERMISSION_DENIED),
    (errors.Unsupported("m"), code_pb2.UNIMPLEMENTED),
    (DecodeError("m"), code_pb2.INVALID_ARGUMENT),
    (ExceptionGroup("g", [ValueError("x"), errors.NotFound("m")]), code_pb2.NOT_FOUND),
]


@pytest.mark.row(74)
@pytest.mark.parametrize(("error", "code"), TABLE, ids=lambda each: type(each).__name__)
def test_each_error_has_its_code_and_keeps_its_message(error: Exception, code: int) -> None:
    status = status_of(error)
    assert status.code == code
    assert status.message


def test_every_error_is_in_the_table() -> None:
    in_table = {type(error) for error, _ in TABLE}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.DistbuildError):
            assert kind is errors.DistbuildError or in_table & set(kind.__mro__)


def test_what_is_unexpected_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status = status_of(KeyError("secret"))
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in status.message
    assert "secret" in caplog.text


@pytest.mark.row(75)
def test_missing_blobs_are_named() -> None:
    failure = error_details_pb2.PreconditionFailure()
    assert status_of(errors.MissingBlobs([DIGEST, TREE])).details[0].Unpack(failure)
    assert [(each.type, each.subject) for each in failure.violations] == [
        ("MISSING", f"blobs/{DIGEST.hash}/4"),
        ("MISSING", f"blobs/sha256tree/{TREE.hash}/4"),
    ]


def test_wrong_fields_are_named() -> None:
    bad = error_details_pb2.BadRequest()
    assert status_of(errors.InvalidFields("m", [("a.b", "why")])).details[0].Unpack(bad)
    assert [(each.field, each.description) for each in bad.field_violations] == [("a.b", "why")]


@pytest.mark.row(108)
def test_unavailable_says_when_to_try_again() -> None:
    retry = error_details_pb2.RetryInfo()
    assert status_of(errors.Unavailable("m")).details[0].Unpack(retry)
    assert retry.retry_delay.ToSeconds() > 0


class Failing(bs_grpc.ByteStreamServicer):
    """Fails in each of the three shapes of call, at a place of one's choice."""

    def __init__(self) -> None:
        self.error: BaseException = ValueError()
        self.after = 0
        self.closed = False

    async def Read(self, request: Any, context: Any) -> AsyncIterator[bs_pb.ReadResponse]:
        try:
            for _ in range(self.after):
                yield bs_pb.ReadResponse(data=b"x")
            raise self.error
        finally:
            self.closed = True

    async def Write(self, request_iterator: Any, context: Any) -> bs_pb.WriteResponse:
        async for _ in request_iterator:
            pass
        raise self.error

    async def QueryWriteStatus(self, request: Any, context: Any) -> Any:
        raise self.error


@pytest.fixture
async def failing() -> AsyncIterator[tuple[Failing, grpc.aio.Channel]]:
    methods = StatusHandlers()
    servicer = Failing()
    bs_grpc.add_ByteStreamServicer_to_server(servicer, methods)
    server = methods.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, channel
    await server.stop(0)


async def read(channel: grpc.aio.Channel) -> int:
    return len([each async for each in bs_grpc.ByteStreamStub(channel).Read(bs_pb.ReadRequest())])


async def write(channel: grpc.aio.Channel) -> Any:
    return await bs_grpc.ByteStreamStub(channel).Write(iter([bs_pb.WriteRequest()] * 3))


async def query(channel: grpc.aio.Channel) -> Any:
    stub = bs_grpc.ByteStreamStub(channel)
    return await stub.QueryWriteStatus(bs_pb.QueryWriteStatusRequest())


Call = Callable[[grpc.aio.Channel], Any]


@pytest.mark.parametrize("call", [read, write, query])
@pytest.mark.parametrize("after", [0, 3])
async def test_errors_of_handlers(
    failing: tuple[Failing, grpc.aio.Channel], call: Call, after: int
) -> None:
    servicer, channel = failing
    servicer.after = after
    for error, code in TABLE:
        servicer.error = error
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel)
        assert caught.value.code().value[0] == code
    servicer.error = ZeroDivisionError("secret")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


@pytest.mark.row(75)
async def test_many_violations_fit_into_the_trailers(
    failing: tuple[Failing, grpc.aio.Channel],
) -> None:
    servicer, channel = failing
    servicer.error = errors.MissingBlobs([DIGEST] * 10_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await query(channel)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "10000" in (caught.value.details() or "")
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    failure = error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(failure)
    assert len(failure.violations) > 10


async def test_a_client_that_goes_away_closes_the_handler(
    failing: tuple[Failing, grpc.aio.Channel],
) -> None:
    servicer, channel = failing
    servicer.after = 10_000_000
    call = bs_grpc.ByteStreamStub(channel).Read(bs_pb.ReadRequest())
    async for _ in call:
        call.cancel()
        break
    async with asyncio.timeout(20):
        while not servicer.closed:
            await asyncio.sleep(0.01)


async def test_a_method_that_is_not_there(failing: tuple[Failing, grpc.aio.Channel]) -> None:
    _, channel = failing
    for path in ("/google.bytestream.ByteStream/Append", "/nowhere.Nothing/Read"):
        call: Any = channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_may_write_its_answers_itself() -> None:
    methods, checker = StatusHandlers(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, methods)
    server = methods.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        await checker.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert (await call.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await server.stop(0)
