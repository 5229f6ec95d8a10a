"""Results that are looked up on a server before they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from remote_apis.digest import Digest
from remote_apis.errors import DistbuildError
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb

_TRUSTED_SECONDS = 60.0
_ABSENT_SECONDS = 1.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Asked:
    task: asyncio.Task[re_pb.ActionResult | None]
    at: float


class LookupsAhead:
    """A result serves for a minute; that there is none, for a second, as others make results."""

    def __init__(
        self,
        look_up: Callable[[Digest], Awaitable[re_pb.ActionResult | None]],
        clock: Callable[[], float],
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._asked: dict[Digest, _Asked] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def __contains__(self, action: Digest) -> bool:
        return action in self._asked

    def begin(self, actions: Iterable[Digest]) -> None:
        """Begin to look some up, but for those that are looked up already."""
        new = [action for action in actions if action not in self._asked]
        for action in new:
            task = asyncio.create_task(self._in_turn(action))
            # whoever needs it is told what went wrong: nobody else is
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked[action] = _Asked(task, self._clock())
        asyncio.get_running_loop().call_later(_TRUSTED_SECONDS, self._forget, new)

    async def get(self, action: Digest) -> re_pb.ActionResult | None:
        """A result, or None. Raises what looking it up now raises."""
        asked = self._asked.get(action)
        if asked is not None:
            with suppress(DistbuildError):
                found = await asyncio.shield(asked.task)
                if found is not None or self._clock() - asked.at < _ABSENT_SECONDS:
                    return found
            self._asked.pop(action, None)
        return await self._look_up(action)

    def close(self) -> None:
        """End what is under way."""
        for asked in self._asked.values():
            asked.task.cancel()

    async def _in_turn(self, action: Digest) -> re_pb.ActionResult | None:
        async with self._turns:
            return await self._look_up(action)

    def _forget(self, actions: Iterable[Digest]) -> None:
        for action in actions:
            if action in self._asked and self._asked[action].task.done():
                del self._asked[action]
