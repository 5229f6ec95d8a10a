"""Fetching does not reach into this machine or its network unless it is allowed to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st
from web_origin import WebOrigin

from server.asset.addresses import AddressPolicy
from server.asset.errors import OriginError, Reason
from server.asset.urls import parse_url
from tests.asset.asset_world import AssetServer, asset_server

PUBLIC = AddressPolicy(allow_private=False)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[AssetServer]:
    """A server with the default settings."""
    async with asset_server(tmp_path, allow_private_addresses=False) as server:
        yield server


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
     "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "239.255.255.250",
     "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1",
     "::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "fec0::1", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
     "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:db8::1", "2001:0:7f00:1::1", "100::1", "text"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not PUBLIC.allows(address)
    assert AddressPolicy(allow_private=True).allows(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert PUBLIC.allows(address)


@given(st.ip_addresses(v=4))
def test_ipv4_inside_of_ipv6_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    allowed = PUBLIC.allows(str(address))
    assert PUBLIC.allows(f"::ffff:{address}") == allowed
    if not allowed:
        assert not PUBLIC.allows(str(ipaddress.IPv6Address((0x0064FF9B << 96) | int(address))))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001",
     "0", "[::1]", "[::ffff:127.0.0.1]", "[::]", "LOCALHOST.", "127.0.0.1."],
)  # fmt: skip
@pytest.mark.parametrize("form", ["blob", "git", "redirected"])
async def test_loopback_is_out_of_reach_by_any_name(
    guarded: AssetServer, web: WebOrigin, host: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.put("/file", b"secret")
    url = web.url("/file", host)
    response: Any
    if form == "blob":
        response = await guarded.fetch_blob(url)
    elif form == "git":
        response = await guarded.fetch_directory(
            url, qualifiers={"resource_type": "application/x-git"}
        )
    else:
        let_in_once(monkeypatch, web)
        response = await guarded.fetch_blob(web.put_redirect("/start", url).replace(
            "127.0.0.1", "public.example"
        ))  # fmt: skip
        assert web.paths == ["/start"]
    assert response.status.code == code_pb2.PERMISSION_DENIED
    assert "/file" not in web.paths


def let_in_once(monkeypatch: pytest.MonkeyPatch, web: WebOrigin) -> None:
    """public.example resolves to a public address, whose packets the test's web server gets."""
    resolve, connect = socket.getaddrinfo, socket.socket.connect

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host == "public.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]
        return resolve(host, port, *rest, **more)

    def redirected(self: socket.socket, address: Any) -> None:
        if address == ("93.184.216.34", web.port):
            address = ("127.0.0.1", web.port)
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", redirected)


async def test_a_name_that_changes_its_address_is_asked_for_once(
    guarded: AssetServer, web: WebOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, every later one is loopback."""
    let_in_once(monkeypatch, web)
    first, answers = socket.getaddrinfo, []

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Any:
        answers.append(host)
        if answers.count("public.example") > 1:
            host = "127.0.0.1"
        return first(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    web.put("/file", b"content")
    response = await guarded.fetch_blob(web.url("/file", "public.example"))
    assert await guarded.blob(response) == b"content"
    assert answers.count("public.example") == 1


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_not_found(text: str) -> None:
    for candidate in (text, "http://" + text, f"https://host/{text}", f"http://{text}.org:80/"):
        try:
            url = parse_url(candidate)
        except OriginError as error:
            assert error.reason is Reason.NOT_FOUND
            continue
        again = parse_url(str(url))
        assert (again.host, again.port, again.target) == (url.host, url.port, url.target)
        assert str(url).isascii() and str(url).isprintable() and " " not in str(url)
