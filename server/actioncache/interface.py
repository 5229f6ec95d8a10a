"""ActionCache: results of actions by instance name and action digest."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from remote_apis.digest import Digest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb


class ActionKey(NamedTuple):
    """What a result is found by. Two instance names share no results."""

    instance: str
    digest: Digest


class ActionCache(Protocol):
    """Results by key. Every implementation passes tests/actioncache's behaviour suite."""

    async def get(self, key: ActionKey) -> re_pb.ActionResult | None:
        """The result, or None when there is none that can be used."""
        ...

    async def put(self, key: ActionKey, result: re_pb.ActionResult) -> None:
        """Store or replace the result; durable when this returns."""
        ...

    async def remove(self, key: ActionKey) -> None:
        """Forget the result, if there is one."""
        ...
