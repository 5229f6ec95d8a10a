"""bb_clientd mounts our CAS and stands between bazel and our server.

Runs where BB_CLIENTD names the program and FUSE is to be had; no package registry has it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .bazel import Bazel
from .bazel_workspace import write_project
from .buildgrid import Bgd
from .conftest import Server
from .processes import client_environment, service
from .programs import Tools

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

CONFIGURATION = Path(__file__).with_name("bb_clientd.jsonnet")
INSTANCES = ["", "team/linux/x86"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clientd:
    """A running bb_clientd: its mount and its socket."""

    mount: Path
    socket: Path

    def directory(self, instance: str, digest: str) -> Path:
        """Where the mount shows a Directory of the CAS."""
        blobs = self.mount / "cas" / instance / "blobs" / "sha256"
        return blobs / "directory" / digest.replace("/", "-")


@pytest.fixture
def program(tools: Tools) -> Path:
    """Asked for before the server, which nobody needs when there is no bb_clientd."""
    return tools.bb_clientd


@pytest.fixture
def clientd(program: Path, server: Server, short_path: Path) -> Iterator[Clientd]:
    running = Clientd(mount=short_path / "mount", socket=short_path / "socket")
    running.mount.mkdir()
    variables = {
        "DISTBUILD_SERVER": server.address,
        "BB_CLIENTD_MOUNT": str(running.mount),
        "BB_CLIENTD_SOCKET": str(running.socket),
        "BB_CLIENTD_STATE": str(short_path),
    }
    try:
        with service(
            [program, CONFIGURATION],
            log=short_path / "log",
            ready=lambda: running.socket.exists() and (running.mount / "cas").is_dir(),
            environment=client_environment(short_path / "home", variables),
        ):
            yield running
    finally:
        if os.path.ismount(running.mount):  # It was killed, or its mount was in use.
            subprocess.run(["umount", "--lazy", running.mount], check=True)


@pytest.mark.parametrize("instance", INSTANCES)
def test_the_mount_shows_the_servers_directories(
    clientd: Clientd, bgd: Bgd, root: Path, instance: str
) -> None:
    options = ["--instance-name", instance] if instance else []
    pushed = bgd("cas", *options, "upload-dir", "--verify", root).output
    digest = pushed.rpartition("digest=[")[2].partition("]")[0]
    seen = clientd.directory(instance, digest)
    assert sorted(path.name for path in seen.iterdir()) == sorted(os.listdir(root))
    assert (seen / "sub" / "deep" / "two.txt").read_text() == "two\n"
    assert (seen / "link").readlink() == Path("sub/deep/two.txt")
    assert list((seen / "hollow").iterdir()) == []
    assert os.access(seen / "run.sh", os.X_OK)


@pytest.mark.parametrize("instance", INSTANCES)
def test_bazel_builds_through_it(
    clientd: Clientd, tools: Tools, tmp_path: Path, instance: str
) -> None:
    workspace = write_project(tmp_path)
    executor = (
        f"--remote_executor=unix://{clientd.socket}",
        f"--remote_instance_name={instance}",
        "--spawn_strategy=remote",
        "--genrule_strategy=remote",
    )
    for name, where in (("one", "remote"), ("two", "remote cache hit")):
        bazel = Bazel(tools=tools, machine=tmp_path / name, workspace=workspace)
        build = bazel("build", "//...", *executor)
        assert build.actions.keys() == {where}
        assert build.output("out/upper.txt").read_text() == "HELLO WORLD\n"
        assert subprocess.check_output([build.output("hello")], text=True) == "hello\n"
