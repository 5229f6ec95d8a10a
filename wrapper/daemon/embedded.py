"""The embedded server: started for builds that name no server, and left running."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping

from remote_apis.errors import Unavailable
from wrapper.home import Home, short_socket_directory

START_TIMEOUT = 30.0
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")


class EmbeddedServer:
    """`distbuild serve` on a Unix socket that only this user can open."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = asyncio.Lock()
        self.last_address: str | None = None
        self._failed: str | None = None

    async def address(self, environment: Mapping[str, str]) -> str:
        """The running server's address, starting it if need be. Raises Unavailable, saying why.

        A server that could not start is not tried again until the daemon is restarted, unless
        the sandbox setting changed: each build would wait for the same failure.
        """
        async with self._lock:
            running = self._running()
            if running is not None:
                self.last_address = running
                return running
            setting = environment.get("DISTBUILD_SANDBOX", "")
            if self._failed is not None and self._failed == setting:
                raise Unavailable("the embedded server does not start (see server.log)")
            try:
                self.last_address = await self._start(environment)
            except Unavailable:
                self._failed = setting
                raise
            self._failed = None
            return self.last_address

    def _running(self) -> str | None:
        try:
            state = json.loads(self._home.server_state.read_text())
            with open(f"/proc/{state['pid']}/cmdline", "rb") as file:
                alive = b"serve" in file.read().split(b"\0")
        except (OSError, ValueError, KeyError):
            return None
        return str(state["address"]) if alive else None

    async def _start(self, environment: Mapping[str, str]) -> str:
        directory = short_socket_directory(self._home)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        address = f"unix:{directory / 'server.sock'}"
        command = [
            sys.executable, "-m", "server.cli.main", "serve", "--listen", address,
            "--data-dir", str(self._home.path / "server"),
        ]  # fmt: skip
        passed = {name: environment[name] for name in _PASSED_ON if name in environment}
        passed |= {
            name: value
            for name, value in environment.items()
            if name in ("DISTBUILD_SANDBOX", "DISTBUILD_WORKERS", "DISTBUILD_MAX_SIZE")
        }
        with open(self._home.path / "server.log", "wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=passed,
                stdin=asyncio.subprocess.DEVNULL, start_new_session=True, cwd="/",
            )  # fmt: skip
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
        except TimeoutError:
            process.kill()
            raise Unavailable("the embedded server did not start in time") from None
        if not line:
            raise Unavailable(f"the embedded server does not start: {self._last_words()}")
        state = {"pid": process.pid, "address": address}
        temporary = self._home.server_state.with_suffix(".partial")
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self._home.server_state)
        return address

    def _last_words(self) -> str:
        text = (self._home.path / "server.log").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"
