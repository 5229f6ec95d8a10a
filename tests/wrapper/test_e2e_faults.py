"""What goes wrong around a build: the build ends as plain cargo's would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from developers import Developer, developer, outcomes, outputs
from running import BIN, RunningServer, running_server
from small_disk import small_disk

pytestmark = [pytest.mark.cargo, pytest.mark.timeout(600)]
WARNING = "warning: distbuild:"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path / "data", "--workers", "2") as running:
        yield running


def write_crate(directory: Path, source: str) -> Path:
    (directory / "src").mkdir(parents=True)
    (directory / "Cargo.toml").write_text(
        '[package]\nname = "broken"\nversion = "0.1.0"\nedition = "2021"\n\n[workspace]\n'
    )
    (directory / "src" / "main.rs").write_text(source)
    return directory


def messages(output: str) -> list[dict[str, object]]:
    """The compiler's messages of `cargo build --message-format json`."""
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [entry["message"] for entry in found if entry["reason"] == "compiler-message"]


def test_no_server_from_the_start(tmp_path: Path) -> None:
    with developer(tmp_path / "dev", "grpc://127.0.0.1:1") as dev:
        checkout = dev.checkout("workspace")
        done = dev.run("cargo", "distbuild", "build", cwd=checkout)
        assert done.stderr.count(WARNING) == 1, done.stderr
        units = dev.units(checkout)
        assert outcomes(units) == {"local"}
        assert all(
            "cannot be reached" in u["reason"] or "127.0.0.1:1" in u["reason"] for u in units
        )
        assert dev.run(checkout / "target/debug/main-binary", cwd=checkout).stdout
        # the warning is no part of what cargo shows again
        assert WARNING not in dev.run("cargo", "build", cwd=checkout).stderr


def test_server_killed_in_the_middle(server: RunningServer, tmp_path: Path) -> None:
    with developer(tmp_path / "dev", server.url) as dev:
        checkout = dev.checkout("workspace")
        process = subprocess.Popen(
            ["cargo", "distbuild", "build"], cwd=checkout, env=dev.environment,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not outputs(checkout / "target/debug", "*.rlib"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(server.process.pid, signal.SIGKILL)
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        assert stderr.count(WARNING) == 1, stderr
        assert outcomes(dev.units(checkout)) == {"remote", "local"}
        assert dev.run(checkout / "target/debug/main-binary", cwd=checkout).stdout


def test_compile_error_is_rustcs_own(server: RunningServer, tmp_path: Path) -> None:
    source = 'fn main() {\n    let x: u32 = "text";\n    println!("{x} {}", missing);\n}\n'
    crate = write_crate(tmp_path / "crate", source)
    with developer(tmp_path / "dev", server.url) as dev:

        def build(*command: str) -> subprocess.CompletedProcess[str]:
            dev.run("cargo", "clean", cwd=crate)
            return dev.run(*command, cwd=crate, check=False)

        for options in (["--color=always"], ["--message-format=json"]):
            plain = build("cargo", "build", *options)
            ours = [build("cargo", "distbuild", "build", *options) for _ in range(2)]
            for done in ours:
                text = "\n".join(x for x in done.stderr.splitlines() if "Distbuild" not in x)
                assert done.returncode == plain.returncode == 101
                assert text.strip() == plain.stderr.strip()
                assert messages(done.stdout) == messages(plain.stdout)
                assert outcomes(dev.units(crate)) == {"local"}


def test_warnings_are_replayed(server: RunningServer, tmp_path: Path) -> None:
    crate = write_crate(tmp_path / "crate", "fn main() {\n    let unused = 1;\n}\n")
    with developer(tmp_path / "dev", server.url) as dev:
        plain = dev.run("cargo", "build", "--message-format=json", cwd=crate)
        for expected in ("remote", "hit-local"):
            dev.run("cargo", "clean", cwd=crate)
            ours = dev.run("cargo", "distbuild", "build", "--message-format=json", cwd=crate)
            assert messages(ours.stdout) == messages(plain.stdout)
            assert outcomes(dev.units(crate)) == {expected}


def test_a_daemon_that_cannot_be_started(tmp_path: Path) -> None:
    """As where the installation is gone by which the start's script was written."""
    crate = write_crate(tmp_path / "crate", "fn main() {}")

    def broken(dev: Developer) -> None:
        dev.run("cargo", "distbuild", "stop", cwd=crate)
        script = dev.home / "bin/start-daemon"
        script.write_text(script.read_text().replace("python", "gone"))
        dev.run("cargo", "clean", cwd=crate)

    with developer(tmp_path / "dev", None) as dev:
        dev.build(crate)
        broken(dev)
        done = dev.run("cargo", "distbuild", "build", cwd=crate)
        assert done.stderr.count("warning: distbuild: the daemon could not be started") == 1
        dev.run("cargo", "clean", cwd=crate)
        done = dev.run("cargo", "distbuild", "build", cwd=crate)  # has another script written
        assert "warning" not in done.stderr
        assert outcomes(dev.units(crate)) == {"hit-local"}
        broken(dev)
        for _ in range(2):
            dev.run("cargo", "clean", cwd=crate)
            dev.run("cargo", "build", cwd=crate, RUSTC_WRAPPER="cargo-distbuild-wrapper")
        assert outcomes(dev.units(crate)) == {"hit-local"}


def test_killed_daemon_is_started_again(server: RunningServer, tmp_path: Path) -> None:
    with developer(tmp_path / "dev", server.url) as dev:
        checkout = dev.checkout("workspace")
        dev.build(checkout)
        os.kill(json.loads((dev.home / "daemon.json").read_text())["pid"], signal.SIGKILL)
        dev.run("cargo", "clean", cwd=checkout)
        assert outcomes(dev.build(checkout)) == {"hit-local"}


def test_damaged_local_blobs_are_not_used(server: RunningServer, tmp_path: Path) -> None:
    with developer(tmp_path / "dev", server.url) as dev:
        checkout = dev.checkout("workspace")
        dev.build(checkout)
        program = (checkout / "target/debug/main-binary").read_bytes()
        for blob in (dev.home / "cache" / "cas").rglob("*_*"):
            if blob.is_file() and blob.stat().st_size > 2000:
                with blob.open("r+b") as file:
                    file.seek(1000)
                    file.write(b"damage")
        dev.run("cargo", "clean", cwd=checkout)
        units = dev.build(checkout)
        assert "hit-local" not in {u["outcome"] for u in units if u["kind"] == "lib"}, units
        assert (checkout / "target/debug/main-binary").read_bytes() == program


def test_embedded_server_is_started_and_stays(tmp_path: Path) -> None:
    with developer(tmp_path / "dev", "embedded", DISTBUILD_WORKERS="2") as dev:
        checkout = dev.checkout("workspace")
        assert outcomes(dev.build(checkout)) == {"remote"}
        server = json.loads((dev.home / "server.json").read_text())["pid"]
        dev.run("cargo", "clean", cwd=checkout)
        source = checkout / "crates" / "lib-common" / "src" / "lib.rs"
        source.write_text(source.read_text() + "\n// another comment\n")
        assert "local" not in outcomes(dev.build(checkout))
        assert json.loads((dev.home / "server.json").read_text())["pid"] == server
        dev.run(BIN / "cargo-distbuild", "stop", cwd=checkout)
        command = Path(f"/proc/{server}/cmdline")
        assert not command.exists() or not command.read_bytes()  # at most a zombie


def test_server_of_no_use_is_named(tmp_path: Path) -> None:
    """A wrong address is a warning that says what is wrong, and a build all the same."""
    with developer(tmp_path / "dev", "http://example.invalid") as dev:
        checkout = dev.checkout("workspace")
        done = dev.run("cargo", "distbuild", "build", cwd=checkout)
        assert done.stderr.count(WARNING) == 1 and "http://example.invalid" in done.stderr


def test_unused_developer(tmp_path: Path) -> None:
    """`stats` before any build says so."""
    with developer(tmp_path / "dev", "none") as dev:
        assert isinstance(dev, Developer)
        done = dev.run("cargo", "distbuild", "stats", cwd=tmp_path, check=False)
        assert done.returncode == 1 and "no build" in done.stderr


def test_what_was_read_beside_the_package_is_learned(server: RunningServer, tmp_path: Path) -> None:
    """A file above the package and a variable of the shell: here once, then in the key."""
    with developer(tmp_path / "dev", server.url) as dev:
        workspace = tmp_path / "ws"
        write_crate(
            workspace / "a",
            'fn main() { println!("{} {}", include_str!("../../NOTE"), env!("MY_SHELL_NAME")); }',
        )
        (workspace / "a" / "Cargo.toml").write_text(
            '[package]\nname = "a"\nversion = "0.1.0"\nedition = "2021"\n'
        )
        (workspace / "Cargo.toml").write_text('[workspace]\nmembers = ["a"]\nresolver = "2"\n')
        note = workspace / "NOTE"
        seen = []
        for text, name in (("one", "x"), ("one", "x"), ("two", "x"), ("two", "y"), ("one", "x")):
            note.write_text(text)
            dev.run("cargo", "clean", cwd=workspace)
            (unit,) = dev.build(workspace, MY_SHELL_NAME=name)
            said = dev.run(workspace / "target/debug/a", cwd=workspace).stdout
            assert said == f"{text} {name}\n"
            seen.append(unit["outcome"])
        assert seen == ["remote", "hit-local", "remote", "remote", "hit-local"]


def test_a_home_where_no_program_starts(tmp_path: Path) -> None:
    crate = write_crate(tmp_path / "w", 'fn main() { println!("built"); }')
    own_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = f"""
        mount -t tmpfs -o noexec tmpfs "$DISTBUILD_HOME"
        cargo distbuild run && cargo clean -q
        RUSTC_WRAPPER={BIN}/cargo-distbuild-wrapper cargo run
        code=$?
        cargo distbuild stop
        exit $code
    """
    with developer(tmp_path / "dev", None) as dev:
        dev.home.mkdir()
        done = dev.run("unshare", *own_user, "--mount", "sh", "-c", script, cwd=crate)
    assert done.stdout.startswith("built\nbuilt\n")
    assert "mounted noexec?" in done.stderr and "; building without it" in done.stderr


def test_a_home_on_a_disk_that_is_full(tmp_path: Path) -> None:
    """No file can be made there, then no byte be written: the build ends as plain cargo's would."""
    crate = write_crate(tmp_path / "crate", 'fn main() { println!("there"); }')
    with small_disk(tmp_path / "disk", megabytes=24, files=3000) as disk:
        home = str(disk.path / "home")
        prefix = (*disk.prefix, "sh", "-c", 'cd "$0" && exec "$@"', str(crate))
        with developer(tmp_path / "dev", None, prefix=prefix, DISTBUILD_HOME=home) as dev:
            dev.run("cargo", "distbuild", "build", cwd=crate)
            for fill in (disk.fill_files, disk.fill_bytes):
                fill()
                dev.run("cargo", "clean", cwd=crate)
                done = dev.run("cargo", "distbuild", "build", cwd=crate)
                assert "Traceback" not in done.stderr
                assert done.stderr.count(WARNING) == 1, done.stderr
                said = dev.run(crate / "target/debug/broken", cwd=crate).stdout
                assert said == "there\n"
                disk.free()
