"""How long the daemon is there."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from wrapper.daemon import server
from wrapper.daemon.parts import Parts
from wrapper.home import Home


@pytest.mark.parametrize("how", ["removed", "made anew", "left", "idle"])
async def test_it_ends_when_nobody_can_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.2 if how == "idle" else 3600.0)
    home = tmp_path / "home"
    home.mkdir()
    daemon = server.DaemonServer(cast(Parts, SimpleNamespace(home=Home(home))))
    serving = asyncio.create_task(daemon.serve(asyncio.Event()))
    async with asyncio.timeout(20):
        while not (home / "daemon.sock").exists():
            await asyncio.sleep(0.01)
        if how in ("removed", "made anew"):
            home.rename(tmp_path / "old")
        if how == "made anew":
            home.mkdir()
            (home / "daemon.sock").touch()
        if how == "left":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(serving), 0.5)
            serving.cancel()
        else:
            await serving
    shutil.rmtree(tmp_path / "old", ignore_errors=True)
