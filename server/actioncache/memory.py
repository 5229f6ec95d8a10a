"""A leaf that keeps results in memory."""

from __future__ import annotations

from collections import OrderedDict

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.actioncache.interface import ActionKey


class MemoryActionCache:
    """The `max_entries` results that were used last."""

    def __init__(self, *, max_entries: int = 100_000) -> None:
        self._max_entries = max_entries
        # Serialised: smaller than messages, and nobody can change what others will get.
        self._results: OrderedDict[ActionKey, bytes] = OrderedDict()

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        data = self._results.get(key)
        if data is None:
            return None
        self._results.move_to_end(key)
        return re_pb.ActionResult.FromString(data)

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        self._results[key] = result.SerializeToString()
        self._results.move_to_end(key)
        while len(self._results) > self._max_entries:
            self._results.popitem(last=False)

    async def remove(self, key: ActionKey) -> None:
        self._results.pop(key, None)
