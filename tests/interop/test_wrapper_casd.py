"""cargo distbuild with buildbox-casd for a server: any REAPI cache will do."""

from __future__ import annotations

from pathlib import Path

import pytest
from developers import developer

from .processes import client_environment, service
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.cargo, pytest.mark.timeout(600)]


def test_a_second_developer_compiles_nothing(
    tools: Tools, tmp_path: Path, short_path: Path
) -> None:
    socket = short_path / "casd"
    command: list[str | Path] = [tools.casd, f"--bind=unix:{socket}", tmp_path / "cache"]
    environment = client_environment(tmp_path / "home")
    with (
        service(command, log=tmp_path / "log", ready=socket.exists, environment=environment),
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
