"""Addresses that users give, and errors that servers send."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.client.channel import TlsFiles, open_channel, parse_address
from remote_apis.client.retry import delays, retrying
from remote_apis.client.rpc_errors import (
    RetryLater,
    error_of_call,
    error_of_status,
    missing_blobs_detail,
    missing_blobs_in,
)
from remote_apis.client.settings import RetryPolicy
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import (
    BlobNotFound,
    DistbuildError,
    FailedPrecondition,
    InvalidRequest,
    MissingBlobs,
    NotFound,
    OffsetOutOfRange,
    OutOfSpace,
    PermissionDenied,
    Unavailable,
    Unsupported,
)

SHA256 = DigestFunction.SHA256


@pytest.mark.parametrize(
    ("url", "target", "is_tls"),
    [
        ("grpc://localhost:8980", "localhost:8980", False),
        ("grpc://localhost:8980/", "localhost:8980", False),
        ("grpcs://build.example.org:443", "build.example.org:443", True),
        ("grpc://[::1]:8980", "[::1]:8980", False),
        ("unix:/run/distbuild.sock", "unix:/run/distbuild.sock", False),
        ("unix:///run/distbuild.sock", "unix:/run/distbuild.sock", False),
        ("unix:relative.sock", "unix:relative.sock", False),
    ],
)
def test_good_addresses(url: str, target: str, is_tls: bool) -> None:
    address = parse_address(url)
    assert (address.target, address.is_tls) == (target, is_tls)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8980",
        "grpc://",
        "grpc://host",
        "grpc://:80",
        "grpc://host:port",
        "grpc://host:99999",
        "http://host:80",
        "grpc://host:80/instance",
        "grpc://user@host:80",
        "grpc://host:80?x=1",
        "grpc://[::1:80",
        "unix:",
    ],
)
def test_wrong_addresses_are_refused_and_named(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_address(url)
    assert "write" in str(raised.value)
    assert repr(url) in str(raised.value)


@given(st.text(max_size=60), st.sampled_from(["", "grpc://", "grpcs://", "unix:"]))
def test_any_text_is_an_address_or_refused(text: str, scheme: str) -> None:
    try:
        address = parse_address(scheme + text)
    except InvalidRequest:
        return
    assert address.target


async def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_channel("grpcs://localhost:1", tls=TlsFiles(ca=tmp_path / "none"))
    async with open_channel("grpcs://localhost:1"):
        pass


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (code_pb2.INVALID_ARGUMENT, InvalidRequest),
        (code_pb2.NOT_FOUND, NotFound),
        (code_pb2.OUT_OF_RANGE, OffsetOutOfRange),
        (code_pb2.FAILED_PRECONDITION, FailedPrecondition),
        (code_pb2.RESOURCE_EXHAUSTED, OutOfSpace),
        (code_pb2.PERMISSION_DENIED, PermissionDenied),
        (code_pb2.UNAUTHENTICATED, PermissionDenied),
        (code_pb2.UNIMPLEMENTED, Unsupported),
        (code_pb2.UNAVAILABLE, Unavailable),
        (code_pb2.DEADLINE_EXCEEDED, Unavailable),
        (code_pb2.INTERNAL, Unavailable),
        (99, Unavailable),
    ],
)
def test_each_code_has_its_error(code: int, kind: type[DistbuildError]) -> None:
    error = error_of_status(status_pb2.Status(code=code, message="why"), "doing that")
    assert type(error) is kind
    assert str(error) == "doing that: why"


def test_not_found_is_about_the_blob_that_was_asked_for() -> None:
    digest = Digest.of(b"x", SHA256)
    error = error_of_status(status_pb2.Status(code=code_pb2.NOT_FOUND), "reading", blob=digest)
    assert isinstance(error, BlobNotFound)
    assert error.digest == digest


DIGESTS = st.builds(
    lambda data, function: Digest.of(data, function),
    st.binary(max_size=8),
    st.sampled_from(list(DigestFunction)),
)


@pytest.mark.row(75)
@given(st.lists(DIGESTS, max_size=5))
def test_missing_blobs_survive_the_wire(digests: list[Digest]) -> None:
    detail = missing_blobs_detail(digests)
    assert missing_blobs_in([detail]) == tuple(digests)
    status = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, details=[detail])
    error = error_of_status(status, "executing")
    if digests:
        assert isinstance(error, MissingBlobs)
        assert error.digests == tuple(digests)
    else:
        assert type(error) is FailedPrecondition


@given(st.text(max_size=40), st.text(max_size=80))
def test_details_of_others_are_not_taken_for_digests(kind: str, subject: str) -> None:
    failure = error_details_pb2.PreconditionFailure()
    failure.violations.add(type=kind, subject=subject)
    failure.violations.add(type="MISSING", subject=subject)
    failure.violations.add(type="MISSING", subject=f"blobs/{subject}")
    detail = AnyMessage()
    detail.Pack(failure)
    for digest in missing_blobs_in([detail, AnyMessage(type_url="x/y", value=b"\xff")]):
        assert digest.hash in subject


def test_a_name_with_an_instance_before_it_is_understood() -> None:
    digest = Digest.of(b"x", SHA256)
    failure = error_details_pb2.PreconditionFailure()
    failure.violations.add(type="MISSING", subject=f"a/b/blobs/{digest.hash}/{digest.size}")
    detail = AnyMessage()
    detail.Pack(failure)
    assert missing_blobs_in([detail]) == (digest,)


@pytest.mark.row(108)
def test_a_server_may_say_when_to_come_back() -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(1500)
    detail = AnyMessage()
    detail.Pack(info)
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="busy", details=[detail])
    error = error_of_status(status, "executing")
    assert isinstance(error, RetryLater)
    assert error.delay == 1.5
    call = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())),
        "busy",
    )
    assert isinstance(error_of_call(call, "executing"), RetryLater)


def test_waits_double_up_to_a_limit() -> None:
    policy = RetryPolicy(first_delay=1, max_delay=5)
    waits = delays(policy, draw=lambda: 1.0)
    assert [next(waits) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert next(delays(policy, draw=lambda: 0.0)) == 0.5


async def test_only_what_may_pass_is_tried_again() -> None:
    policy = RetryPolicy(attempts=3, first_delay=0.001)
    calls: list[DistbuildError] = []

    async def failing(error: DistbuildError) -> None:
        calls.append(error)
        raise error

    with pytest.raises(Unavailable):
        await retrying(policy, lambda: failing(Unavailable("away")))
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(InvalidRequest):
        await retrying(policy, lambda: failing(InvalidRequest("wrong")))
    assert len(calls) == 1
