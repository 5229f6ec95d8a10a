"""What the client classes have in common: an instance on a channel, and how a call is made."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import grpc.aio

from remote_apis.client.retry import retrying
from remote_apis.client.rpc_errors import rpc_errors
from remote_apis.client.settings import ClientLimits, Metadata


class ServiceClient:
    """One service of one instance. Raises the errors of `remote_apis.errors`.

    Calls that fail as Unavailable are repeated as `limits.retry` says.
    """

    _stub_class: ClassVar[type[Any]]

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        instance: str = "",
        limits: ClientLimits | None = None,
        metadata: Metadata = (),
    ) -> None:
        self._instance = instance
        self._limits = limits or ClientLimits()
        self._metadata = metadata
        self._stub = self._stub_class(channel)

    def with_metadata(self, metadata: Metadata) -> Self:
        """The same client with other headers (see `settings.request_metadata`)."""
        client = copy.copy(self)
        client._metadata = metadata
        return client

    async def _call(self, what: str, method: Any, request: Any) -> Any:
        """The answer to a request that is safe to repeat; `what` leads the error's message."""
        return await retrying(self._limits.retry, lambda: self._attempt(what, method, request))

    async def _attempt(self, what: str, method: Any, request: Any) -> Any:
        with rpc_errors(what):
            return await method(request, metadata=self._metadata, timeout=self._limits.call_timeout)
