"""Killing all processes of a session."""

from __future__ import annotations

import asyncio

from worker.process import Child, wait_for_exit
from worker.survivors import kill, session_members


async def kill_session(child: Child) -> None:
    """Kill what runs in the session that `child` leads or led, and wait until it is gone.

    Not interrupted by a cancellation, which is raised at the end instead.
    """
    is_cancelled = False
    child.kill_group()
    while True:
        try:
            await child.wait()
            members = list(session_members(child.pid))
            if not members:
                break
            kill(members)
            for pid in members:
                await wait_for_exit(pid)
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
