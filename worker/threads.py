"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")
FEW = 16
"""So many files are looked at or made in less time than a hop to a thread and back takes."""


async def in_thread(
    executor: Executor,
    call: Callable[[], T],
    *,
    is_short: bool = False,
    on_cancel: Callable[[], None] | None = None,
) -> T:
    """Run what blocks. A cancellation is raised only once it is over, which `on_cancel` hurries.

    Otherwise files would go on appearing in a directory that is being removed. What `is_short` is
    done at once, without a thread.
    """
    if is_short:
        return call()
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()  # seen: the cancellation goes first
        raise
