"""A web server and an asset server for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from web_origin import WebOrigin, web_origin

from tests.asset.asset_world import AssetServer, asset_server


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebOrigin]:
    with web_origin(tmp_path / "repositories") as origin:
        yield origin


@pytest.fixture
async def assets(tmp_path: Path) -> AsyncIterator[AssetServer]:
    async with asset_server(tmp_path) as server:
        yield server
