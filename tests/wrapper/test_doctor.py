"""What `cargo distbuild doctor` finds, and what it advises."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from rights import WITHOUT_ALL_RIGHTS
from running import BIN, running_server
from small_disk import small_disk

from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from wrapper.checks import machine, place, settings
from wrapper.checks.finding import Finding, Grade
from wrapper.checks.server import check_server
from wrapper.cli.doctor import lines
from wrapper.home import Home, short_socket_directory
from wrapper.shim import install

BARE = {"PATH": os.defpath, "HOME": "/nowhere"}


def doctor(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISTBUILD_", "CARGO_"))}
    kept |= {"DISTBUILD_HOME": str(directory / "distbuild")}
    return subprocess.run(
        [BIN / "cargo-distbuild", "distbuild", "doctor"], cwd=directory, env=kept | environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.cargo
def test_a_machine_in_order(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "1") as server:
        done = doctor(tmp_path, DISTBUILD_REMOTE=server.url)
    found = dict(re.findall(r"^(?:ok|warn|fail) +([\w ]+): (.*)$", done.stdout, re.MULTILINE))
    assert done.returncode == 0, done.stdout
    assert set(found) >= {
        "settings", "cargo", "toolchain", "home", "room", "shim", "build scripts", "daemon",
        "linker", "sandbox",
        "sockets", "wrappers", "incremental", "server", "action cache", "workers", "clock",
    }  # fmt: skip
    assert found["toolchain"].startswith("rustc 1.")
    assert "worker-1 ran a test action" in found["workers"]
    assert "REAPI 2.0 to 2." in found["server"]


@pytest.mark.cargo
def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    done = doctor(tmp_path, DISTBUILD_REMOTE="grpc://127.0.0.1:1")
    assert done.returncode == 1
    assert re.search(r"^fail +server: grpc://127.0.0.1:1: .*\n +→ start it", done.stdout, re.M)
    assert "1 failed" in done.stdout.splitlines()[-1]


class Cache(re_grpc.CapabilitiesServicer):
    """A cache without execution, which may not be written."""

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: object
    ) -> re_pb.ServerCapabilities:
        offer = re_pb.ServerCapabilities()
        offer.low_api_version.major = offer.high_api_version.major = 2
        offer.cache_capabilities.digest_functions.append(re_pb.DigestFunction.MD5)
        return offer


@pytest.fixture
async def cache() -> AsyncIterator[str]:
    server = grpc.aio.server()
    re_grpc.add_CapabilitiesServicer_to_server(Cache(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"grpc://127.0.0.1:{port}"
    await server.stop(None)


async def test_a_cache_of_others(cache: str) -> None:
    found = {each.subject: each async for each in check_server(cache, "")}
    assert found["server"].grade == Grade.OK
    assert found["digest function"].grade == Grade.FAIL
    assert found["action cache"].grade == Grade.WARN
    assert found["workers"].text.startswith("none")
    assert "clock" not in found


async def test_no_address_at_all() -> None:
    found = [each async for each in check_server("http://x", "")]
    assert [each.grade for each in found] == [Grade.FAIL]


def test_how_a_finding_reads() -> None:
    shown = lines(Finding(grade=Grade.WARN, subject="a", text="b", remedy="c"))
    assert shown == ["warn  a: b", "      → c"]


def test_homes(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert place.check_home(home).grade == Grade.OK
    home.path.chmod(0o777)
    assert place.check_home(home).remedy == f"chmod go-w {home.path}"
    (tmp_path / "file").write_text("")
    assert place.check_home(Home(tmp_path / "file")).grade == Grade.FAIL
    assert place.check_room(home).text.endswith("free")


def test_a_home_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=1, files=100) as disk:
        disk.fill_files()
        found = place.check_home(Home(disk.seen / "home"))
    assert found.grade == Grade.FAIL and "No space left" in found.text
    assert (
        found.remedy == f"free some of the disk, or delete {disk.seen / 'home'} while no build runs"
    )


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "LITTLE", 1 << 62)
    assert place.check_room(Home(tmp_path)).grade == Grade.WARN
    monkeypatch.setattr(place, "TOO_LITTLE", 1 << 61)
    assert place.check_room(Home(tmp_path)).grade == Grade.FAIL


def test_sockets(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert place.check_sockets(home, {}).grade == Grade.OK
    long = {"DISTBUILD_REMOTE": "unix:/" + "x" * 107}
    assert place.check_sockets(home, long).grade == Grade.FAIL
    assert place.check_sockets(Home(tmp_path / ("y" * 120)), {}).text.endswith(
        str(short_socket_directory(Home(tmp_path / ("y" * 120))))
    )


def test_daemons(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert "not running" in place.check_daemon(home).text
    home.daemon_state.write_text(f'{{"pid": {os.getpid()}, "stamp": "other"}}')
    assert "another version" in place.check_daemon(home).text
    (tmp_path / "daemon.failed").touch()
    assert place.check_daemon(home).grade == Grade.FAIL


def test_another_users_daemon(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as others:
        others.bind("daemon.sock")
        (tmp_path / "daemon.sock").chmod(0)
        asked = (
            "from pathlib import Path; from wrapper.checks import place;"
            "from wrapper.home import Home;print(place.check_daemon(Home(Path('.'))).text)"
        )
        command = [*WITHOUT_ALL_RIGHTS, sys.executable, "-c", asked]
        said = subprocess.check_output(command, text=True)
    assert said == "daemon.sock is another user's\n"


def test_which_server_is_asked(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert place.server_address(home, {}) is None
    assert place.server_address(home, {"DISTBUILD_REMOTE": "grpc://h:1"}) == "grpc://h:1"
    embedded = {"DISTBUILD_REMOTE": "embedded"}
    assert place.server_address(home, embedded) is None
    home.server_state.write_text(f'{{"pid": {os.getpid()}, "address": "unix:/x"}}')
    assert place.server_address(home, embedded) == "unix:/x"


def test_other_wrappers(tmp_path: Path) -> None:
    def found(**environment: str) -> list[str]:
        findings = settings.check_wrappers(tmp_path, BARE | environment)
        return [each.text for each in findings if each.grade == Grade.WARN]

    assert found() == []
    assert found(RUSTC_WRAPPER="/x/bin/cargo-distbuild-wrapper") == []
    assert found(RUSTC_WRAPPER="sccache") == [
        "sccache (RUSTC_WRAPPER) has no effect under `cargo distbuild`"
    ]
    path = tmp_path / ".cargo" / "config.toml"
    path.parent.mkdir()
    path.write_text('[build]\nrustc-wrapper = "kache"\nrustc-workspace-wrapper = "mine"\n')
    assert found() == [
        f"kache ({path}) has no effect under `cargo distbuild`",
        f"mine ({path}) makes units of the workspace compile here",
    ]


def test_incremental(tmp_path: Path) -> None:
    def found(**environment: str) -> tuple[Grade, str]:
        finding = settings.check_incremental(tmp_path, BARE | environment)
        return finding.grade, finding.text.partition(":")[0]

    assert found() == (Grade.OK, "on (cargo's default)")
    assert found(CI="1") == (Grade.WARN, "on (cargo's default), in CI")
    assert found(CI="1", CARGO_INCREMENTAL="0") == (Grade.OK, "off (CARGO_INCREMENTAL)")
    path = tmp_path / ".cargo" / "config.toml"
    path.parent.mkdir()
    path.write_text("[build]\nincremental = false\n")
    assert found(CI="1") == (Grade.OK, f"off ({path})")


def test_programs_that_are_not_there(tmp_path: Path) -> None:
    missing = {"CARGO": "/no/cargo", "RUSTC": "/no/rustc", "PATH": str(tmp_path)}
    assert machine.check_cargo(missing).grade == Grade.FAIL
    assert machine.check_toolchain(missing).grade == Grade.FAIL
    assert "cc is None" in machine.check_linker(missing).text


def test_a_home_for_no_shim(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert machine.check_shim(Home(tmp_path / "file" / "home")).grade == Grade.FAIL
    assert machine.check_shim(Home(tmp_path / "home")).grade == Grade.OK


def test_build_scripts_that_are_not_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    machine.check_shim(home)
    assert machine.check_build_scripts(home).grade == Grade.OK
    home.launcher.write_text("#!/bin/sh\nexit 1\n")
    assert "watched" in machine.check_build_scripts(home).text
    monkeypatch.setattr(install, "BUILT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    home.launcher.with_suffix(".version").unlink()
    assert "no launcher" in machine.check_build_scripts(home).text


def test_variables_that_are_wrong() -> None:
    found = list(settings.check_variables({"DISTBUILD_REMOTE": "127.0.0.1:80"}))
    assert [each.grade for each in found] == [Grade.FAIL]
