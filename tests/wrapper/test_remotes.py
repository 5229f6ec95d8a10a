"""The digest function follows from what the server has, and is remembered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from wrapper.daemon.embedded import EmbeddedServer
from wrapper.daemon.protocol import Call
from wrapper.daemon.remotes import Remotes
from wrapper.home import Home, RemoteSettings
from wrapper.remote import Remote

BLAKE3, MD5, SHA256 = DigestFunction.BLAKE3, DigestFunction.MD5, DigestFunction.SHA256
CALL = Call(parent=1, cwd="/", argv=("rustc",), environment={})


class Offers(re_grpc.CapabilitiesServicer):
    """A server that has some digest functions, and counts how often it was asked.

    `runs` is the only one of actions, if there is one.
    """

    def __init__(
        self, functions: Sequence[DigestFunction], runs: DigestFunction | None = None
    ) -> None:
        self._functions = functions
        self._runs = runs
        self.asked = 0

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: object
    ) -> re_pb.ServerCapabilities:
        self.asked += 1
        offer = re_pb.ServerCapabilities()
        numbers = [function.number for function in self._functions]
        offer.cache_capabilities.digest_functions.extend(numbers)  # type: ignore[arg-type]
        if self._runs:
            offer.execution_capabilities.exec_enabled = True
            offer.execution_capabilities.digest_function = self._runs.number  # type: ignore[assignment]
        return offer


@asynccontextmanager
async def serving(offers: re_grpc.CapabilitiesServicer) -> AsyncIterator[str]:
    """The address of a server that has no other service."""
    server = grpc.aio.server()
    re_grpc.add_CapabilitiesServicer_to_server(offers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(None)


@dataclass
class User:
    """One whose daemon starts anew with each `ask`."""

    home: Home

    async def ask(self, url: str, *, times: int = 1) -> tuple[list[Remote | str | None], list[str]]:
        """What several calls at once get, and what the user is told."""
        said: list[str] = []
        remotes = Remotes(EmbeddedServer(self.home), self.home)
        settings = RemoteSettings(url=url, instance="")
        try:
            calls = [remotes.get(settings, CALL, said.append) for _ in range(times)]
            return list(await asyncio.gather(*calls)), said
        finally:
            await remotes.close()

    async def function(self, url: str) -> DigestFunction:
        [remote], said = await self.ask(url)
        assert isinstance(remote, Remote), said
        return remote.function


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(Home(tmp_path))


@pytest.mark.parametrize(
    ("offers", "used"),
    [
        (Offers([SHA256, BLAKE3]), BLAKE3),
        (Offers([MD5, SHA256]), SHA256),
        (Offers([]), SHA256),  # a server older than the field
        (Offers([SHA256, BLAKE3], runs=SHA256), SHA256),
        (Offers([SHA256, BLAKE3], runs=BLAKE3), BLAKE3),
    ],
)
async def test_the_best_that_both_have(user: User, offers: Offers, used: DigestFunction) -> None:
    async with serving(offers) as url:
        found, _ = await user.ask(url, times=9)
    assert {each.function for each in found if isinstance(each, Remote)} == {used}
    assert offers.asked == 1


async def test_a_server_with_neither(user: User) -> None:
    async with serving(Offers([MD5])) as url:
        found, said = await user.ask(url)
    assert found == ["the server takes neither BLAKE3 nor SHA256"]
    assert said == [
        "warning: distbuild: the server takes neither BLAKE3 nor SHA256; compiling on this machine"
    ]


async def test_it_is_remembered_while_the_server_is_away(user: User) -> None:
    async with serving(Offers([SHA256])) as url:
        assert await user.function(url) == SHA256
    assert await user.function(url) == SHA256
    assert await user.function("grpc://127.0.0.1:1") == BLAKE3


class CannotSay(Offers):
    """One that is a front of several, of which the one that would know is away."""

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: Any
    ) -> re_pb.ServerCapabilities:
        self.asked += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the scheduler is away")
        raise AssertionError("abort returned")


async def test_a_server_that_cannot_say_is_used_all_the_same(user: User) -> None:
    offers = CannotSay([])
    async with serving(offers) as url:
        found, said = await user.ask(url, times=5)
    assert [each.function for each in found if isinstance(each, Remote)] == [BLAKE3] * 5
    assert not any(each.is_down for each in found if isinstance(each, Remote))
    assert said == []
    # of these one asks for the number of jobs
    assert offers.asked <= 2


async def test_a_server_that_learns_another(user: User) -> None:
    user.home.sha256_servers.write_text("grpc://other:1\n")
    async with serving(Offers([SHA256, BLAKE3])) as url:
        user.home.sha256_servers.write_text(f"grpc://other:1\n{url}\n")
        assert await user.function(url) == BLAKE3
    assert user.home.sha256_servers.read_text() == "grpc://other:1\n"


async def test_nothing_can_be_remembered(user: User) -> None:
    user.home.sha256_servers.mkdir()
    async with serving(Offers([SHA256])) as url:
        assert await user.function(url) == SHA256


def test_grpc_is_for_those_who_have_a_server() -> None:
    """It is a third of what the daemon takes to start."""
    ask = "import sys, wrapper.daemon.run; print('grpc' in sys.modules)"
    command = [sys.executable, "-c", ask]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"
