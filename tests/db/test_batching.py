"""Questions asked together are answered together, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from server.db.batching import Batcher


class Doubling:
    """Doubles numbers, slowly; remembers its batches. A negative number is refused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await asyncio.sleep(0.01)
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * number for number in numbers]


async def test_what_is_asked_meanwhile_shares_the_next_trip() -> None:
    doubling = Doubling()
    batcher = Batcher(doubling)
    first = asyncio.create_task(batcher.ask(1))
    await asyncio.sleep(0.002)
    assert await asyncio.gather(first, *map(batcher.ask, range(2, 600))) == [
        2 * n for n in range(1, 600)
    ]
    assert doubling.batches[0] == [1]
    assert len(doubling.batches) == 4
    assert max(map(len, doubling.batches)) == 256


async def test_an_error_reaches_all_of_its_batch_and_nobody_else() -> None:
    batcher = Batcher(Doubling())
    answers = await asyncio.gather(batcher.ask(3), batcher.ask(-1), return_exceptions=True)
    assert all(isinstance(answer, ValueError) for answer in answers)
    assert await batcher.ask(4) == 8


async def test_one_who_gives_up_takes_no_answer_from_the_others() -> None:
    batcher = Batcher(Doubling())
    asking = [asyncio.create_task(batcher.ask(number)) for number in range(3)]
    await asyncio.sleep(0)
    asking[1].cancel()
    assert (await asking[0], await asking[2]) == (0, 4)
    with pytest.raises(asyncio.CancelledError):
        await asking[1]
