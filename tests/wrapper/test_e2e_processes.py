"""Scheduler and workers as separate processes, as on several machines."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.request
from pathlib import Path

import pytest
from developers import developer, outcomes
from running import running_server, running_worker

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(400)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def test_scheduler_and_two_workers(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path / "data", command="scheduler run"))
        for number, port in enumerate(ports, 1):
            stack.enter_context(running_worker(f"worker-{number}", server.url, tmp_path, port))
        dev = stack.enter_context(developer(tmp_path / "dev", server.url))
        units = dev.build(dev.checkout("workspace"), "--jobs", "2")
        assert outcomes(units) == {"remote"}, json.dumps(units, indent=1)
        assert {unit["worker"] for unit in units} == {"worker-1", "worker-2"}
        for port in ports:
            assert get(port, "/healthz")
            assert "# TYPE" in get(port, "/metrics")
