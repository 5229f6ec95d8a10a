"""URLs as origins need them: checked, the host in the one form that all programs read alike."""

from __future__ import annotations

import base64
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from server.asset.errors import OriginError, Reason

_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_SAFE = "%/:=&?~+!$,;'@()*[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """An http or https URL without user and fragment; `target` is path and query.

    `host` is lower case, without a final dot, with IPv6 addresses bare; `authorization` the header
    that the URL's user and password make, or None.
    """

    scheme: str
    host: str
    port: int
    target: str
    authorization: str | None = None

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be the same for secrets to be sent along."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: str) -> Url:
    """Parse an http(s) URL. Raises OriginError NOT_FOUND: what cannot be parsed names nothing."""
    try:
        parts = urlsplit(text)
        if parts.scheme not in _PORTS:
            raise ValueError(f"this server does not fetch {parts.scheme[:40]!r} URIs")
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        host = _host(parts.hostname or "")
    except (ValueError, OSError) as error:
        raise OriginError(Reason.NOT_FOUND, f"URI {text[:300]!r} is of no use: {error}") from None
    if any(character in text for character in "\\ ") or not text.isprintable():
        raise OriginError(Reason.NOT_FOUND, f"URI {text[:300]!r} holds a bad character")
    target = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE)
    return Url(
        scheme=parts.scheme,
        host=host,
        port=port,
        target=target,
        authorization=_basic(parts.username, parts.password),
    )


def redirected(url: Url, location: str) -> Url:
    """Where a redirect goes. Raises OriginError."""
    following = parse_url(urljoin(str(url), location))
    if url.scheme == "https" and following.scheme != "https":
        raise OriginError(Reason.PERMISSION_DENIED, f"{url} redirects to a plain http URI")
    return following


def _host(text: str) -> str:
    if ":" in text:
        socket.inet_pton(socket.AF_INET6, text)
        return text.lower()
    host = text.encode("idna").decode("ascii") if not text.isascii() else text
    host = host.lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"the host {text[:160]!r} is malformed")
    try:
        # 127.1 and 0x7f000001 are addresses as well, and not every program reads them alike
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
