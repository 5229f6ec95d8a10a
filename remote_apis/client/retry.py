"""Making a call again when the server could not be reached."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from remote_apis.client.rpc_errors import RetryLater
from remote_apis.client.settings import RetryPolicy
from remote_apis.errors import Unavailable

T = TypeVar("T")


def delays(policy: RetryPolicy, draw: Callable[[], float] = random.random) -> Iterator[float]:
    """The waits between attempts, in seconds, without end."""
    delay = policy.first_delay
    while True:
        yield delay * (1 + draw()) / 2
        delay = min(delay * 2, policy.max_delay)


async def retrying(policy: RetryPolicy, call: Callable[[], Awaitable[T]]) -> T:
    """The first answer of `call`, made up to `policy.attempts` times while it is Unavailable.

    `call` must be safe to repeat. Raises what the last attempt raised.
    """
    waits = delays(policy)
    for _ in range(policy.attempts - 1):
        try:
            return await call()
        except RetryLater as error:
            await asyncio.sleep(min(error.delay, policy.max_delay))
        except Unavailable:
            await asyncio.sleep(next(waits))
    return await call()
