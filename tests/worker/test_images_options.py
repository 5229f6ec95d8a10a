"""The options of `distbuild serve` and `distbuild worker run` about what runs actions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.rpc import code_pb2
from running import BIN, running_server

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.cli.execution_options import execution_arguments, execution_settings
from server.cli.main import build_parser
from tests.worker.image_maker import Image, shell_layer, write_docker_tarball
from tests.worker.test_images_in_worker import asking
from tests.worker.world import client_of
from worker.config import ResourceLimits

Variable = re_pb.Command.EnvironmentVariable
ALL = [
    "--sandbox", "none", "--container-engine", "none", "--network", "on", "--default-timeout",
    "2.5", "--limit-memory", "2G", "--limit-processes", "50", "--limit-cpus", "1.5",
    "--limit-cpu-seconds", "60", "--limit-file-size", "1M",
]  # fmt: skip


def settings_of(arguments: Sequence[str], **environment: str) -> dict[str, object]:
    parsed = build_parser(environment).parse_args(arguments)
    return execution_settings(parsed)


@pytest.mark.parametrize("command", [["serve"], ["worker", "run"]])
def test_every_option_gets_to_the_worker(command: list[str], tmp_path: Path) -> None:
    settings = settings_of([*command, *ALL, "--images", str(tmp_path)])
    assert settings == {
        "sandbox": "none",
        "images": tmp_path,
        "container_engine": "none",
        "allows_network": True,
        "default_timeout": 2.5,
        "limits": ResourceLimits(
            memory_bytes=2 * 1024**3, processes=50, cpus=1.5, cpu_seconds=60, file_bytes=1024**2
        ),
    }
    # What `serve` tells its worker process is the same.
    parsed = build_parser({}).parse_args([*command, *ALL, "--images", str(tmp_path)])
    assert settings_of(["worker", "run", *execution_arguments(parsed)]) == settings


def test_without_options() -> None:
    settings = settings_of(["worker", "run"])
    assert settings == {
        "sandbox": "bubblewrap", "images": None, "container_engine": "auto",
        "allows_network": False, "default_timeout": None, "limits": ResourceLimits(),
    }  # fmt: skip
    assert settings_of(["worker", "run"], DISTBUILD_NETWORK="on")["allows_network"] is True


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--images", "/nowhere"), ("--container-engine", "lxc"), ("--network", "maybe"),
        ("--default-timeout", "0"), ("--default-timeout", "nan"), ("--limit-memory", "much"),
        ("--limit-processes", "0"), ("--limit-cpus", "-1"), ("--limit-cpu-seconds", "1.5"),
    ],
)  # fmt: skip
def test_wrong_values(option: str, value: str) -> None:
    done = subprocess.run(
        [BIN / "distbuild", "worker", "run", option, value],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and option in done.stderr and value in done.stderr


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    for command in (["serve", "--listen", "127.0.0.1:0", "--data-dir", "d"], ["worker", "run"]):
        done = subprocess.run(
            [BIN / "distbuild", *command, "--container-engine", "podman", "--sandbox", "none"],
            env=os.environ | {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 2, done
        assert "--container-engine podman: podman is not on PATH" in done.stderr


async def test_serve_runs_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    tagged = {"example.org/tools/sh:1": Image(layers=[shell_layer()])}
    write_docker_tarball(images / "any name.tar", tagged)
    options = ["--images", str(images), "--workers", "1", "--limit-file-size", "64K"]
    with running_server(tmp_path / "data", *options) as server:
        async with client_of(server.url) as client:
            for script, failed in (("cat /etc/who > made", False), ("cat /bin/sh > made", True)):
                command = re_pb.Command(
                    arguments=["/bin/sh", "-c", script],
                    output_paths=["made"],
                    environment_variables=[Variable(name="PATH", value="/bin")],
                )
                image = asking("docker://example.org/tools/sh:1")
                response = await client.run_command(command, action=image)
                assert response.status.code == 0, response.status
                assert bool(response.result.exit_code) is failed
            response = await client.run_command(command, action=asking("absent:1"))
            assert response.status.code == code_pb2.FAILED_PRECONDITION
            assert "example.org/tools/sh:1" in response.status.message
