"""A daemon's end of the socket, for tests of the programs that cargo starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from wrapper.daemon.protocol import Call, Reply, read_call

Answer = Callable[[Call, Reply, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(home: Path, calls: list[Call], answer: Answer) -> AsyncIterator[None]:
    """Answers every call at `home`; what goes wrong in it is raised here. Calls go to `calls`."""
    problems: list[BaseException] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            call = await read_call(reader)
            calls.append(call)
            await answer(call, Reply(reader, writer), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except BaseException as error:
            problems.append(error)
        finally:
            writer.close()

    with contextlib.chdir(home):
        server = await asyncio.start_unix_server(connected, "daemon.sock")
    async with server:
        yield
    assert problems == []
