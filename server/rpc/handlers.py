"""What happens around every call, whatever the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
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
_OFTEN = (
    ("build.bazel.remote.execution.v2.Execution", "Execute"),
    ("buildbarn.remoteworker.OperationQueue", "Synchronize"),
)
"""gRPC waits for calls of each of these by itself, and for those of all others one at a time. That
takes a twentieth off what an action costs; with more of them it would come back, for grpc.aio looks
at all that it waits for with every call."""


class StatusHandlers(grpc.GenericRpcHandler):
    """All methods of a server; give it to `add_...Servicer_to_server` in place of one.

    Turns what a method raises into a status, and undecodable requests into INVALID_ARGUMENT:
    grpc itself would answer INTERNAL to random bytes. Not an interceptor, since that would be
    looked for and asked with every call.
    """

    def __init__(self) -> None:
        self._services: list[grpc.GenericRpcHandler] = []
        self._wrapped: dict[str, _Handler] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take the methods of services."""
        self._services.extend(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, _Handler]
    ) -> None:
        """Nothing: newer stubs give methods a second time, one by one."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        """The method that is called, if there is one."""
        known = self._wrapped.get(handler_call_details.method)
        if known is not None:
            return known
        for service in self._services:
            handler = service.service(handler_call_details)
            if handler is not None:
                wrapped = _wrapped(handler, handler.request_deserializer or _as_it_is)
                return self._wrapped.setdefault(handler_call_details.method, wrapped)
        return None

    def server(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Server:
        """A server with all methods that have been added; it listens nowhere yet."""
        server = grpc.aio.server(handlers=[self], options=options)
        for service, name in _OFTEN:
            handler = self.service(_Called(f"/{service}/{name}"))
            if handler is not None:
                server.add_registered_method_handlers(service, {name: handler})
        return server


class _Called(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def _as_it_is(request: Any) -> Any:
    return request


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
        except (grpc.aio.BaseError, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - this is the boundary
            await abort(context, error)

    return call


def _streaming(method: Any, decode: Callable[[Any, _Context], Any]) -> Any:
    async def call(request: Any, context: _Context) -> None:
        try:
            responses = method(decode(request, context), context)
            if asyncio.iscoroutine(responses):  # it writes by itself
                await responses
                return
            async with aclosing(responses):
                async for response in responses:
                    await context.write(response)
        except grpc.aio.InternalError as gone:  # so is the client, of which gRPC hears later
            raise asyncio.CancelledError from gone
        except (grpc.aio.BaseError, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - this is the boundary
            await abort(context, error)

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
