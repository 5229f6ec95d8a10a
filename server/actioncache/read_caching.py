"""A near action cache in front of a far one."""

from __future__ import annotations

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionCache, ActionKey


class ReadCachingActionCache:
    """Asks `near` first and keeps there what `far` answers; writes go to both, `far` first."""

    def __init__(self, *, near: ActionCache, far: ActionCache) -> None:
        self._near = near
        self._far = far

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        result = await self._near.get(key)
        if result is None:
            result = await self._far.get(key)
            if result is not None:
                await self._near.put(key, result)
        return result

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        await self._far.put(key, result)
        await self._near.put(key, result)

    async def remove(self, key: ActionKey) -> None:
        await self._far.remove(key)
        await self._near.remove(key)
