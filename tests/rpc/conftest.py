"""The storage services on a real gRPC server, with real stores behind them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from server.rpc.terms import Terms
from tests.rpc.storage_server import Storage, start_storage

Serve = Callable[..., Awaitable[Storage]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server; keywords are fields of Terms, or as ActionCacheServicer's."""
    async with AsyncExitStack() as stack:

        async def start(
            *, update_enabled: bool = True, requires_action: bool = True, **terms: Any
        ) -> Storage:
            return await start_storage(
                stack,
                tmp_path,
                Terms(**terms),
                update_enabled=update_enabled,
                requires_action=requires_action,
            )

        yield start


@pytest.fixture
async def storage(serve: Serve) -> Storage:
    """A server with everything as it is by default."""
    return await serve()
