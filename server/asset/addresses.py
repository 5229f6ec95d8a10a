"""Which addresses fetching may connect to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from server.asset.errors import OriginError, Reason

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketAddress:
    """What a socket connects to; `text` is the address alone."""

    family: socket.AddressFamily
    text: str
    target: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """Without `allow_private` only addresses of the public internet."""

    allow_private: bool

    def allows(self, text: str) -> bool:
        """Whether a numeric address may be connected to."""
        if self.allow_private:
            return True
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return all(_is_public(each) for each in _with_embedded(address))

    def resolve(self, host: str, port: int) -> list[SocketAddress]:
        """The host's addresses that may be connected to; blocks.

        The answer is what must be connected to: a second look-up could tell another. Raises
        OriginError: NOT_FOUND for an unknown host, PERMISSION_DENIED when no address is left.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise OriginError(Reason.NOT_FOUND, f"host {host!r} is not known: {why}") from None
        allowed = [
            SocketAddress(family=family, text=str(target[0]), target=target)
            for family, _type, _protocol, _name, target in found
            if self.allows(str(target[0]))
        ]
        if not allowed:
            raise OriginError(
                Reason.PERMISSION_DENIED,
                f"host {host!r} has no public address, and this server fetches from no others",
            )
        return allowed


def _is_public(address: _Address) -> bool:
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not is_site_local


def _with_embedded(address: _Address) -> Iterator[_Address]:
    """The address and the IPv4 addresses that its packets may end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
