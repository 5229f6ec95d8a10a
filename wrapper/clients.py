"""The connection to one server, and the clients on it.

Imported when a build has a server: gRPC takes a third of the daemon's start.
"""

from __future__ import annotations

from remote_apis.client.action_cache import ActionCacheClient
from remote_apis.client.capabilities import Offer, get_offer
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel, parse_address
from remote_apis.client.execution import ExecuteOptions, ExecutionClient
from remote_apis.client.settings import ClientLimits
from remote_apis.client.workers import WorkersClient
from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from wrapper.early import EarlyWatch

_CAPABILITIES_TIMEOUT = 3.0
_PATIENCE = 3.0


class Clients:
    """One client for each service of one server and instance."""

    def __init__(self, url: str, instance: str) -> None:
        """Raises InvalidRequest for what is no address."""
        self._instance = instance
        self._channel = open_channel(url)
        self.is_local = parse_address(url).is_local
        limits = ClientLimits(is_far=not self.is_local)
        self.cas = CasClient(self._channel, instance=instance, limits=limits)
        self.results = ActionCacheClient(self._channel, instance=instance)
        self.workers = WorkersClient(self._channel, instance=instance)
        self._execution = ExecutionClient(self._channel, instance=instance, patience=_PATIENCE)

    async def offer(self) -> Offer:
        """What the server offers. Raises Unavailable when it does not answer."""
        return await get_offer(
            self._channel, instance=self._instance, timeout=_CAPABILITIES_TIMEOUT
        )

    async def execute(self, action: Digest, early: EarlyWatch) -> re_pb.ExecuteResponse:
        """Run an action whose blobs are there."""
        return await self._execution.execute(
            action, ExecuteOptions(), on_progress=early.on_progress
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
