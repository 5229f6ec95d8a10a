"""deploy/ says what the programs take, and its files agree with each other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import BIN

from remote_apis.errors import InvalidRequest
from server.cli.main import build_parser
from server.cli.serve import DRAIN_SECONDS
from server.cli.workers import STOP_SECONDS
from tests.deploy.deploy_files import (
    DEPLOY,
    ROOT,
    Unit,
    arguments,
    bytes_of,
    container,
    dockerfile,
    manifest,
    manifests,
    parse,
    pod,
    project,
    seconds,
)

PORT = 8980
PROGRAM = "/opt/distbuild/bin/distbuild"
SYSTEMD = DEPLOY / "systemd"
SERVER_UNIT = Unit(path=SYSTEMD / "distbuild-server.service")
WORKER_UNIT = Unit(path=SYSTEMD / "distbuild-worker@.service", instance="1")
NAMESPACE = "distbuild"


def test_units_start_what_there_is() -> None:
    command = SERVER_UNIT.command()
    server = parse(command[1:], SERVER_UNIT.environment())
    assert (server.listen, server.workers, server.insecure) == (f"0.0.0.0:{PORT}", 0, True)
    assert server.data_dir == Path("/var/lib") / SERVER_UNIT.one("StateDirectory")
    assert server.max_size

    worker = parse(WORKER_UNIT.command()[1:], WORKER_UNIT.environment())
    assert worker.server.endswith(f":{PORT}")
    assert (worker.id, worker.port) == ("machine-1", 6001)
    directory = WORKER_UNIT.one("CacheDirectory").replace("%i", "1")
    assert worker.cache_dir == Path("/var/cache") / directory
    assert worker.sandbox == "bubblewrap"

    for unit in (SERVER_UNIT, WORKER_UNIT):
        assert unit.command()[0] == PROGRAM
    assert Path(PROGRAM).name in project()["scripts"]


def test_units_let_drain() -> None:
    for unit in (SERVER_UNIT, WORKER_UNIT):
        # SIGTERM for rustc and bubblewrap would fail what the worker is to finish
        assert unit.one("KillMode") == "mixed"
    drain = DRAIN_SECONDS + STOP_SECONDS
    assert seconds(SERVER_UNIT.one("TimeoutStopSec")) > drain
    assert pod(manifest("StatefulSet", "distbuild-server"))["terminationGracePeriodSeconds"] > drain
    worker = pod(manifest("Deployment", "distbuild-worker"))["terminationGracePeriodSeconds"]
    assert seconds(WORKER_UNIT.one("TimeoutStopSec")) == worker


def test_worker_unit_leaves_bubblewrap_its_namespaces() -> None:
    for key in (
        *("RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc"),
        *("ProcSubset", "ProtectHostname", "SystemCallFilter"),
    ):
        assert WORKER_UNIT.all(key) == [], key


def test_systemd_knows_every_line(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of Debian's systemd")
    for unit, name in ((SERVER_UNIT, "server.service"), (WORKER_UNIT, "worker@1.service")):
        copy = tmp_path / f"distbuild-{name}"
        copy.write_text(unit.path.read_text().replace(PROGRAM, str(BIN / "distbuild")))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", copy],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if "distbuild" in line]
        assert done.returncode == 0 and not said, done.stderr


def test_pods_start_what_there_is() -> None:
    server = arguments(manifest("StatefulSet", "distbuild-server"))
    assert (server.listen, server.workers, server.insecure) == (f"0.0.0.0:{PORT}", 0, True)
    worker = arguments(manifest("Deployment", "distbuild-worker"))
    service = manifest("Service", "distbuild")
    assert (
        worker.server
        == f"grpc://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    )
    assert (worker.id, worker.port, worker.sandbox) == ("pod-1", 6001, "bubblewrap")
    requested = container(manifest("Deployment", "distbuild-worker"))["resources"]["requests"]
    assert worker.slots == int(requested["cpu"])


def test_directories_of_pods_are_volumes_that_are_big_enough() -> None:
    owner = manifest("StatefulSet", "distbuild-server")
    server = arguments(owner)
    mounts = {m["mountPath"]: m["name"] for m in container(owner)["volumeMounts"]}
    (claim,) = owner["spec"]["volumeClaimTemplates"]
    assert mounts[str(server.data_dir)] == claim["metadata"]["name"]
    assert server.max_size < bytes_of(claim["spec"]["resources"]["requests"]["storage"]) * 0.9

    owner = manifest("Deployment", "distbuild-worker")
    worker = arguments(owner)
    mounts = {m["mountPath"]: m["name"] for m in container(owner)["volumeMounts"]}
    (volume,) = pod(owner)["volumes"]
    assert mounts[str(worker.cache_dir)] == volume["name"]
    assert worker.cache_size * 2 <= bytes_of(volume["emptyDir"]["sizeLimit"])


def test_variables_of_services_are_kept_out() -> None:
    """A service called distbuild makes DISTBUILD_PORT, which is an option of the worker."""
    with pytest.raises(InvalidRequest, match="DISTBUILD_PORT"):
        build_parser({"DISTBUILD_PORT": f"tcp://10.0.0.1:{PORT}"})
    for owner in manifests():
        if owner["kind"] in ("StatefulSet", "Deployment"):
            assert pod(owner)["enableServiceLinks"] is False


def test_objects_fit_together() -> None:
    labels = {}
    for each in manifests():
        if each["kind"] == "Namespace":
            assert each["metadata"]["name"] == NAMESPACE
            continue
        assert each["metadata"]["namespace"] == NAMESPACE
        if each["kind"] in ("StatefulSet", "Deployment"):
            labels[each["metadata"]["name"]] = each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"]["selector"]["matchLabels"] == labels[each["metadata"]["name"]]
    service = manifest("Service", "distbuild")
    assert service["spec"]["selector"] == labels["distbuild-server"]
    assert manifest("StatefulSet", "distbuild-server")["spec"]["serviceName"] == "distbuild"


def test_the_port_is_the_same_everywhere() -> None:
    service = manifest("Service", "distbuild")["spec"]["ports"]
    server = container(manifest("StatefulSet", "distbuild-server"))
    (port,) = server["ports"]
    assert [(p["port"], p["targetPort"]) for p in service] == [(PORT, port["name"])]
    assert port["containerPort"] == PORT
    assert [int(text) for text in dockerfile("EXPOSE")] == [PORT]
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["grpc"]["port"] == PORT
    assert server["livenessProbe"]["tcpSocket"]["port"] == port["name"]
    inwards = manifest("NetworkPolicy", "server")["spec"]["ingress"]
    outwards = manifest("NetworkPolicy", "worker")["spec"]["egress"]
    assert [p["port"] for rule in inwards for p in rule["ports"]] == [PORT]
    assert PORT in [p["port"] for rule in outwards for p in rule["ports"]]


def test_policies_name_the_pods() -> None:
    server = manifest("NetworkPolicy", "server")["spec"]
    worker = manifest("NetworkPolicy", "worker")["spec"]
    assert server["podSelector"] == {"matchLabels": {"app": "distbuild-server"}}
    assert worker["podSelector"] == {"matchLabels": {"app": "distbuild-worker"}}
    assert {"podSelector": worker["podSelector"]} in server["ingress"][0]["from"]
    assert {"podSelector": server["podSelector"]} in worker["egress"][0]["to"]
    assert manifest("NetworkPolicy", "deny-all")["spec"]["podSelector"] == {}


def test_image() -> None:
    entry = json.loads(dockerfile("ENTRYPOINT")[0])
    assert entry[-1] == PROGRAM and Path(entry[0]).name in dockerfile("RUN")[-1]
    for copied in dockerfile("COPY"):
        if not copied.startswith("--from="):
            for source in copied.split()[:-1]:
                assert (ROOT / source).exists(), source
    copies = " ".join(dockerfile("COPY")).split()
    for package in ("remote_apis", "server", "worker", "wrapper"):
        assert package in copies
    assert project()["readme"] in copies and project()["license-files"][0] in copies
    user = pod(manifest("StatefulSet", "distbuild-server"))["securityContext"]
    assert dockerfile("USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    folder = DEPLOY / "kubernetes" / "kustomization.yaml"
    assert f"name: distbuild\n    newTag: {project()['version']}" in folder.read_text()
    for owner in manifests():
        if owner["kind"] in ("StatefulSet", "Deployment"):
            assert container(owner)["image"] == "distbuild"


def test_what_the_image_is_built_from_can_be_installed(tmp_path: Path) -> None:
    for line in dockerfile("COPY"):
        *names, directory = line.split()
        if names[0].startswith("--from"):
            continue
        for name in names:
            source, target = ROOT / name, tmp_path / directory.strip("/")
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.mkdir(exist_ok=True)
                shutil.copy(source, target)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--target", str(tmp_path / "installed"), str(tmp_path / "src")]
    subprocess.run(command, check=True, timeout=110)
    assert (tmp_path / "installed" / "server" / "cli" / "main.py").exists()
