"""What happens around every call, whatever the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from server.rpc.status import grpc_code, status_of

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs alone
_DETAILS_KEY = "grpc-status-details-bin"
_MAX_DETAILS = 4096
"""Bytes of details in the trailers: many peers take no more than 8 KiB of metadata."""


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a handler raises into a status, and undecodable requests into INVALID_ARGUMENT.

    Requests are decoded here because grpc itself would answer INTERNAL to random bytes.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        return _wrapped(handler, handler.request_deserializer)


def _wrapped(handler: _Handler, decode: Callable[[bytes], Any]) -> _Handler:
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _streaming(handler.stream_stream, lambda _, context: _decoded(context, decode)),
            response_serializer=handler.response_serializer,
        )
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(
            _unary(handler.stream_unary, lambda _, context: _decoded(context, decode)),
            response_serializer=handler.response_serializer,
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _streaming(handler.unary_stream, lambda request, _: decode(request)),
            response_serializer=handler.response_serializer,
        )
    return grpc.unary_unary_rpc_method_handler(
        _unary(handler.unary_unary, lambda request, _: decode(request)),
        response_serializer=handler.response_serializer,
    )


async def _decoded(context: _Context, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """The messages of a stream, none of which stays referred to from here: they may be large."""
    while (request := await context.read()) is not grpc.aio.EOF:
        decoded = [decode(request)]
        del request
        yield decoded.pop()


def _unary(method: Any, decode: Callable[[Any, _Context], Any]) -> Any:
    async def call(request: Any, context: _Context) -> Any:
        try:
            return await method(decode(request, context), context)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - this is the boundary
            await abort(context, error)

    return call


def _streaming(method: Any, decode: Callable[[Any, _Context], Any]) -> Any:
    async def call(request: Any, context: _Context) -> Any:
        responses = None
        try:
            responses = method(decode(request, context), context)
            async for response in responses:
                yield response
        except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - this is the boundary
            await abort(context, error)
        finally:
            if responses is not None:
                await responses.aclose()

    return call


async def abort(context: _Context, error: BaseException) -> NoReturn:
    """End the call with the status of an error."""
    status = status_of(error)
    _fit(status)
    trailers = [(_DETAILS_KEY, status.SerializeToString())] if status.details else []
    await context.abort(grpc_code(status), status.message, tuple(trailers))
    raise AssertionError("abort returned")


def _fit(status: status_pb2.Status) -> None:
    """Drop violations that do not fit into the trailers; the message says how many there are."""
    while status.ByteSize() > _MAX_DETAILS and status.details:
        failure = error_details_pb2.PreconditionFailure()
        if not status.details[0].Unpack(failure) or len(failure.violations) <= 1:
            del status.details[:]
            return
        del failure.violations[len(failure.violations) // 2 :]
        status.details[0].Pack(failure)
