"""The servers that builds use, and the one warning a build when one is out of reach."""

from __future__ import annotations

from collections.abc import Callable

from remote_apis.errors import DistbuildError
from wrapper.daemon.embedded import EmbeddedServer
from wrapper.daemon.protocol import Call
from wrapper.home import EMBEDDED, RemoteSettings
from wrapper.remote import Remote

Tell = Callable[[str], None]
_REMEMBERED = 200


class Remotes:
    """Open connections by address and instance name."""

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded
        self._open: dict[tuple[str, str], Remote] = {}
        self._wrong: dict[str, str] = {}
        self._warned: dict[tuple[int, str | None], None] = {}

    async def get(self, settings: RemoteSettings, call: Call, tell: Tell) -> Remote | str | None:
        """The server of a build, None when it wants none, or why it cannot be had.

        Of a failure the user is told, once.
        """
        if settings.url is None:
            return None
        try:
            url = settings.url
            if url == EMBEDDED:
                url = await self._embedded.address(call.settings)
            key = (url, settings.instance)
            if key not in self._open:
                self._open[key] = Remote(url, settings.instance)
            return self._open[key]
        except DistbuildError as error:
            self._warn(settings, call, tell, str(error))
            return str(error)

    def warn_if_down(self, settings: RemoteSettings, call: Call, tell: Tell) -> None:
        """Tell the user, once a build, that the build goes on without its server."""
        url = self._embedded.last_address if settings.url == EMBEDDED else settings.url
        remote = self._open.get((url or "", settings.instance))
        if remote is not None and remote.is_down:
            self._warn(settings, call, tell, f"the server {remote.url} {remote.trouble}")

    def _warn(self, settings: RemoteSettings, call: Call, tell: Tell, why: str) -> None:
        key = (call.parent, settings.url)
        if key in self._warned:
            return
        if len(self._warned) >= _REMEMBERED:
            self._warned.clear()
        self._warned[key] = None
        tell(f"warning: distbuild: {why}; compiling on this machine")

    async def close(self) -> None:
        """Close all connections."""
        for remote in self._open.values():
            await remote.close()
