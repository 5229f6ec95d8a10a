"""What deploy/ relies on, with real processes: the probes, and the sandbox within its rights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import BIN, running_server, running_worker

from tests.deploy.deploy_files import container, manifest

pytestmark = pytest.mark.timeout(180)
SECONDS = 60


def probe(kind: str, port: int) -> int:
    """The exit code of a worker's probe, with another port and this Python."""
    worker = container(manifest("Deployment", "distbuild-worker"))
    program, *words = worker[kind]["exec"]["command"]
    assert program == "python3" and "6001" in words[-1]
    words[-1] = words[-1].replace("6001", str(port))
    return subprocess.run(
        [sys.executable, *words], stderr=subprocess.DEVNULL, timeout=SECONDS, check=False
    ).returncode


def eventually(expected: int, kind: str, port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while (probe(kind, port) == 0) != (expected == 0):
        assert time.monotonic() < deadline, kind


def test_probes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with running_server(tmp_path / "server", "--workers", "0") as server:
        with grpc.insecure_channel(server.target) as channel:
            # what kubelet asks for a grpc probe without a service
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=SECONDS
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with running_worker("w", server.url, tmp_path, port):
            eventually(0, "readinessProbe", port)
            server.stop()
            eventually(1, "readinessProbe", port)
            assert probe("livenessProbe", port) == 0
    assert probe("livenessProbe", port) != 0


@contextmanager
def user_namespace(*, users: int, own: int = 0) -> Iterator[tuple[str, ...]]:
    """The prefix of commands in a user namespace with so many users, of whom we are `own`."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to map users")
    holder = subprocess.Popen(
        ["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    with holder:
        holder.stdin.write(b"there\n")
        holder.stdin.flush()
        holder.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text(f"{own} 0 {users}\n")
        yield "nsenter", "--target", str(holder.pid), "--user", "--preserve-credentials", "--"
        holder.stdin.close()


def started_worker(directory: Path, *prefix: str) -> str:
    """What a worker says until it is drained: of its sandbox, if that works."""
    process = subprocess.Popen(
        [*prefix, BIN / "distbuild", "worker", "run", "--slots", "1", "--cache-dir", directory,
         "--server", "grpc://127.0.0.1:1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        return line + process.communicate(timeout=SECONDS)[1]
    finally:
        process.kill()
        process.communicate()


def test_the_rights_of_the_pod_are_enough(tmp_path: Path) -> None:
    """hostUsers: false, an unmasked /proc, the capabilities: actions get users of their own."""
    context = container(manifest("Deployment", "distbuild-worker"))["securityContext"]
    assert context["procMount"] == "Unmasked" and context["runAsUser"] == 0
    assert context["capabilities"]["drop"] == ["ALL"]
    kept = "".join(f",+{name.lower()}" for name in context["capabilities"]["add"])
    with user_namespace(users=65_536) as enter:
        said = started_worker(
            tmp_path / "cache", *enter, "unshare", "--mount",
            "setpriv", f"--bounding-set=-all{kept}", "--inh-caps=-all", "--",
        )  # fmt: skip
    assert "(bubblewrap)" in said and "share" not in said, said


def test_root_without_other_users(tmp_path: Path) -> None:
    """As in a container of a user without further ids: actions share the worker's user."""
    with user_namespace(users=1) as enter:
        said = started_worker(tmp_path / "cache", *enter)
    assert "(bubblewrap)" in said and "actions share the worker's user" in said, said


def test_the_rights_of_the_unit_are_enough(tmp_path: Path) -> None:
    """An ordinary user without capabilities, and none to be had from programs."""
    with user_namespace(users=1, own=1000) as enter:
        said = started_worker(
            tmp_path / "cache", *enter,
            *("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"),
        )  # fmt: skip
    assert "(bubblewrap)" in said, said
