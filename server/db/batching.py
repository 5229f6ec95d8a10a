"""Questions asked at the same time, answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")
_MOST = 256


class Batcher(Generic[_Question, _Answer]):
    """One call of `answer` at a time; whatever is asked during it goes into the next.

    A question alone is thus answered at once, and under load a trip to the database is shared by
    all who wait. `answer` gives its answers in the order of the questions; what it raises, all of
    them get.
    """

    def __init__(
        self, answer: Callable[[Sequence[_Question]], Awaitable[Sequence[_Answer]]]
    ) -> None:
        self._answer = answer
        self._waiting: list[tuple[_Question, asyncio.Future[_Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, question: _Question) -> _Answer:
        """The answer. A caller that is cancelled does not stop what has been asked."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer] = loop.create_future()
        self._waiting.append((question, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._answer_batch(batch)
        finally:
            self._running = None

    async def _answer_batch(self, batch: list[tuple[_Question, asyncio.Future[_Answer]]]) -> None:
        try:
            answers = await self._answer([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 - each of those who asked gets it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
