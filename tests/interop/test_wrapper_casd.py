"""cargo distbuild with buildbox-casd for a server: any REAPI cache will do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import developer

from remote_apis.client.blobs import BlobSource
from remote_apis.client.cas import CasClient
from remote_apis.client.channel import open_channel
from remote_apis.client.settings import ClientLimits
from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction

from .processes import client_environment, service
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.cargo, pytest.mark.timeout(600)]


@pytest.fixture
def socket(tools: Tools, tmp_path: Path, short_path: Path) -> Iterator[Path]:
    """Where a casd listens."""
    path = short_path / "casd"
    command: list[str | Path] = [tools.casd, f"--bind=unix:{path}", tmp_path / "cache"]
    environment = client_environment(tmp_path / "home")
    with service(command, log=tmp_path / "log", ready=path.exists, environment=environment):
        yield path


async def test_blobs_that_another_uploaded_meanwhile(socket: Path) -> None:
    """It ends the stream when it finds the blob, while the client still sends."""
    content = os.urandom(5_000_000)
    source = BlobSource(Digest.of(content, DigestFunction.SHA256), content)
    async with open_channel(f"unix:{socket}") as channel:
        cas = CasClient(channel, limits=ClientLimits(is_far=True))  # it has no compression either
        for _ in range(5):
            await cas.upload([source])
        assert await cas.read(source.digest) == content


def test_a_second_developer_compiles_nothing(socket: Path, tmp_path: Path) -> None:
    with (
        developer(tmp_path / "alice", f"unix:{socket}") as alice,
        developer(tmp_path / "bob", f"unix:{socket}") as bob,
    ):
        made = alice.build(alice.checkout("ws"))
        assert {unit["outcome"] for unit in made} == {"local"}
        alice.run("cargo", "distbuild", "stop", cwd=alice.directory)  # waits until all is shared
        checkout = bob.checkout("another/ws")
        found = bob.build(checkout)
        assert {unit["outcome"] for unit in found} == {"hit-remote"}
        done = bob.run(checkout / "target/debug/main-binary", "1/3 + 1/6", cwd=checkout)
        assert "1/2" in done.stdout
        # casd has no BLAKE3, which is remembered for when it is out of reach
        assert (bob.home / "sha256-servers").read_text() == f"unix:{socket}\n"
